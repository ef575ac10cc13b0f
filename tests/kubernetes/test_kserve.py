"""KServe's manifests: against KServe's own schemas, and against what the service really does.

The schemas are not part of the project: they lie in ``shared/specs`` beside the checkout.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from service.__main__ import main
from service.http.app import create_app
from service.inference.classifier import Classifier
from service.runtime.machine import Machine
from service.runtime.sizing import IN_FLIGHT_PER_CORE, Sizing
from service.settings import Settings, variable_name
from tests.kubernetes.test_manifests import FOLDER as DEPLOYMENTS
from tests.kubernetes.test_manifests import Manifest, assert_metrics_exist, load
from tests.server import ROOT

FOLDER = ROOT / "docker" / "kserve"
SPECS = ROOT.parent / "shared" / "specs"
RUNTIME = FOLDER / "clusterservingruntime.yaml"
STANDARD = FOLDER / "inferenceservice.yaml"
KNATIVE = FOLDER / "inferenceservice-knative.yaml"


def validator_of(manifest: Manifest) -> jsonschema.Draft202012Validator:
    """What checks the ``spec`` of a manifest's kind and version, and takes no unknown field."""
    group, _, version = manifest["apiVersion"].partition("/")
    return _validator(SPECS / f"{group}_{manifest['kind'].lower()}s.yaml", version)


@cache
def _validator(file: Path, version: str) -> jsonschema.Draft202012Validator:
    if not file.is_file():
        pytest.skip(f"KSERVE'S MANIFESTS ARE NOT VALIDATED: {file} is not there")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a minute faster
    definition = yaml.load(file.read_bytes(), loader)  # noqa: S506  both are safe
    (found,) = [each for each in definition["spec"]["versions"] if each["name"] == version]
    schema = found["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return jsonschema.Draft202012Validator(strict(schema))


def strict(schema: Any) -> Any:
    """The same schema with unknown fields refused, as ``kubectl --validate=strict`` does.

    What Kubernetes alone knows (an integer or a string) is left to ``anyOf``.
    """
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        open_ended = made.get("x-kubernetes-preserve-unknown-fields", False)
        made.setdefault("additionalProperties", open_ended)
    return made


@pytest.mark.parametrize("path", [RUNTIME, STANDARD, KNATIVE], ids=lambda path: path.stem)
def test_kserves_schemas_accept_it(path: Path) -> None:
    manifest = load(path)
    validator_of(manifest).validate(manifest["spec"])


def test_the_schemas_are_strict() -> None:
    manifest = load(KNATIVE)
    validator = validator_of(manifest)
    for wrong in ({"canaryTraffic": 10}, {"scaleMetric": "requests"}):
        broken = copy.deepcopy(manifest["spec"])
        broken["predictor"] |= wrong
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_every_manifest_is_looked_at() -> None:
    assert {RUNTIME, STANDARD, KNATIVE} == set(FOLDER.glob("*"))


@pytest.fixture
def container() -> Manifest:
    (only,) = load(RUNTIME)["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_the_runtimes_arguments_serve(container: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As KServe fills them in; the command is taken apart, and nothing is started."""
    seen: list[Settings] = []

    def serve(arguments: dict[str, str]) -> int:
        seen.append(Settings.from_environ({}, arguments))
        return 0

    monkeypatch.setattr("service.server.application.serve", serve)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main([word.replace("{{.Name}}", "pets") for word in container["args"]]) == 0
    (settings,) = seen
    assert settings.name == "pets"
    assert settings.model == Path("/mnt/models")
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port
    annotations = load(RUNTIME)["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(settings.port)


def test_what_knative_refuses_is_not_there(container: Manifest) -> None:
    """A second port, a probe of another port, ``lifecycle``, and the variable ``PORT``."""
    assert container["name"] == "kserve-container"
    (port,) = container["ports"]
    assert port["name"] in ("http1", "h2c")
    assert "lifecycle" not in container
    assert "env" not in container
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["containerPort"]
    for path in (STANDARD, KNATIVE):
        model = load(path)["spec"]["predictor"]["model"]
        assert "PORT" not in {entry["name"] for entry in model["env"]}


def test_probes_and_metrics_ask_what_is_there(
    container: Manifest, tiny_classifier: Classifier
) -> None:
    rules = {rule.rule for rule in create_app(Settings(), tiny_classifier).url_map.iter_rules()}
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    path = load(RUNTIME)["spec"]["annotations"]["prometheus.kserve.io/path"]
    assert {"/health/ready", "/health/live", path} <= rules


def test_pods_may_do_nothing_but_answer(container: Manifest) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_memory_is_enough_for_the_cores(container: Manifest, tiny_model: Path) -> None:
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    memory = int(limits["memory"].removesuffix("Gi")) << 30
    settings = Settings(model=tiny_model, workers=int(limits["cpu"]))
    assert Sizing.fitted(settings, Machine(1, memory)).lowered == ()


@pytest.mark.parametrize("path", [STANDARD, KNATIVE], ids=lambda path: path.stem)
def test_inference_services_ask_for_this_runtime(path: Path) -> None:
    runtime = load(RUNTIME)["spec"]
    model = load(path)["spec"]["predictor"]["model"]
    formats = {each["name"] for each in runtime["supportedModelFormats"] if each.get("autoSelect")}
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["protocolVersions"]
    names = {entry["name"] for entry in model["env"]}
    assert names <= {variable_name(field) for field in Settings.__struct_fields__}


def test_keda_scales_on_what_is_exported_and_on_cpu() -> None:
    cpu, in_flight = load(STANDARD)["spec"]["predictor"]["autoScaling"]["metrics"]
    (resource,) = load(DEPLOYMENTS / "horizontalpodautoscaler.yaml")["spec"]["metrics"]
    assert cpu == resource
    assert_metrics_exist(in_flight["external"]["metric"]["query"])
    assert int(in_flight["external"]["target"]["value"]) < IN_FLIGHT_PER_CORE


def test_a_core_may_have_as_many_in_flight_in_every_mode() -> None:
    """Before more replicas are started."""
    (pod,) = load(DEPLOYMENTS / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    (_, keda) = load(DEPLOYMENTS / "scaledobject.yaml")["spec"]["triggers"]
    each = int(keda["metadata"]["threshold"]) / int(pod["resources"]["limits"]["cpu"])
    (runtime,) = load(RUNTIME)["spec"]["containers"]
    (_, standard) = load(STANDARD)["spec"]["predictor"]["autoScaling"]["metrics"]
    knative = load(KNATIVE)["spec"]["predictor"]["scaleTarget"]
    found = {int(standard["external"]["target"]["value"]), knative}
    assert found == {each * int(runtime["resources"]["limits"]["cpu"])}
