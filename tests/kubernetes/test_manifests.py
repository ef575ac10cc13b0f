"""The manifests: against Kubernetes' own schemas, and against what the service really does."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.batch.processes import processes_for
from service.http.app import create_app
from service.inference.classifier import Classifier
from service.inference.model_files import model_size
from service.runtime.machine import Machine
from service.runtime.metrics import Metrics
from service.runtime.shared_state import SharedState
from service.runtime.sizing import IN_FLIGHT_PER_CORE, Sizing
from service.settings import DEFAULT_MODEL, Settings, variable_name
from tests.server import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
OWN_MODEL = FOLDER / "own-model"
NAME = "app.kubernetes.io/name"
# The oldest that clusters still commonly run, and the newest that the package knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())

Manifest = dict[str, Any]
RESOURCES = [path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"]
# What needs resource definitions that are not Kubernetes' own.
OPTIONAL = {"servicemonitor.yaml", "scaledobject.yaml"}
BUILT_IN = [path for path in RESOURCES if path.name not in OPTIONAL]


def load(path: Path) -> Manifest:
    content: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def assert_metrics_exist(query: str) -> None:
    """Every metric of ours that a query asks for is exported."""
    asked = set(re.findall(r"labelserve_[a-z_]+", query))
    exported = Metrics(SharedState(1), 0).to_text().decode()
    assert asked
    assert asked <= set(re.findall(r"^# TYPE (\S+)", exported, re.MULTILINE))


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge as kustomize does it: lists of named things are merged by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        keys = [*base, *(key for key in patch if key not in base)]
        return {
            key: merged(base[key], patch[key])
            if key in base and key in patch
            else {**base, **patch}[key]
            for key in keys
        }
    if isinstance(base, list) and isinstance(patch, list):
        by_name = {item["name"]: item for item in base}
        for item in patch:
            by_name[item["name"]] = merged(by_name.get(item["name"], item), item)
        return list(by_name.values())
    return copy.deepcopy(patch)


@pytest.fixture(params=["default model", "own model"])
def deployment(request: pytest.FixtureRequest) -> Manifest:
    """As it is applied, without and with the overlay."""
    base = load(FOLDER / "deployment.yaml")
    if request.param == "default model":
        return base
    whole: Manifest = merged(base, load(OWN_MODEL / "deployment.yaml"))
    return whole


@pytest.fixture
def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


@pytest.fixture(scope="module")
def routes(tiny_classifier: Classifier) -> set[str]:
    rules = create_app(Settings(), tiny_classifier).url_map.iter_rules()
    return {rule.rule for rule in rules if "GET" in (rule.methods or ())}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_kubernetes_schemas_accept_it(path: Path, version: str) -> None:
    if path != OWN_MODEL / "deployment.yaml":  # a patch; the whole is looked at below
        kubernetes_validate.validate(load(path), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_schemas_accept_the_deployment(deployment: Manifest, version: str) -> None:
    kubernetes_validate.validate(deployment, version, strict=True)


def test_the_schemas_are_strict() -> None:
    broken = load(FOLDER / "deployment.yaml")
    broken["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_kustomize_has_everything() -> None:
    base, overlay = load(FOLDER / "kustomization.yaml"), load(OWN_MODEL / "kustomization.yaml")
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(base["resources"]) == there - OPTIONAL
    for name in OPTIONAL:
        assert f"  # - {name}\n" in (FOLDER / "kustomization.yaml").read_text(encoding="utf-8")
    assert (OWN_MODEL / overlay["resources"][0]).resolve() == FOLDER
    for name in (*overlay["resources"][1:], *(patch["path"] for patch in overlay["patches"])):
        assert (OWN_MODEL / name).is_file()
    namespace = load(FOLDER / "namespace.yaml")["metadata"]["name"]
    assert base["namespace"] == overlay["namespace"] == namespace
    (image,) = base["images"]
    (container,) = load(FOLDER / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['name']}:{image['newTag']}"


def test_everything_speaks_of_the_same_pods(deployment: Manifest) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == {NAME: "labelserve"}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert load(FOLDER / "service.yaml")["spec"]["selector"] == labels
    assert load(FOLDER / "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    budget = load(FOLDER / "poddisruptionbudget.yaml")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    scaler = load(FOLDER / "horizontalpodautoscaler.yaml")["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    # The autoscaler's number stays, and a budget of one always leaves a replica.
    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] > budget["maxUnavailable"] == 1


def test_ports_lead_to_the_service(container: Manifest) -> None:
    (port,) = container["ports"]
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    assert port["containerPort"] == Settings.from_environ(environ).port
    (outer,) = load(FOLDER / "service.yaml")["spec"]["ports"]
    assert outer["targetPort"] == port["name"]
    ((allowed,),) = [
        rule["ports"] for rule in load(FOLDER / "networkpolicy.yaml")["spec"]["ingress"]
    ]
    assert allowed == {"port": port["name"]}


def test_probes_ask_what_is_there(container: Manifest, routes: set[str]) -> None:
    paths = {}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[kind]["httpGet"]
        assert get["path"] in routes
        assert get["port"] == container["ports"][0]["name"]
        paths[kind] = get["path"]
    # A pod that is only draining, or waits for a worker, must not be killed for it.
    assert paths["livenessProbe"] == "/health/live"
    assert paths["readinessProbe"] == paths["startupProbe"] == "/health/ready"


def test_settings_exist_and_fit_the_limits(container: Manifest, tiny_model: Path) -> None:
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    assert set(environ) <= {variable_name(field) for field in Settings.__struct_fields__}
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    sizes = {"LABELSERVE_WORKERS": limits["cpu"], "LABELSERVE_MODEL": str(tiny_model)}
    assert limits["memory"].endswith("Gi")
    limit = int(limits["memory"].removesuffix("Gi")) << 30
    settings = Settings.from_environ({**environ, **sizes})
    assert Sizing.fitted(settings, Machine(1, limit)).lowered == ()


def test_there_is_time_to_drain(pod: Manifest, container: Manifest) -> None:
    settings = Settings.from_environ({entry["name"]: entry["value"] for entry in container["env"]})
    probe = container["readinessProbe"]
    assert settings.drain_seconds >= 2 * probe["periodSeconds"] * probe["failureThreshold"]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert asleep >= 5
    stopping = asleep + settings.drain_seconds + settings.graceful_timeout
    assert pod["terminationGracePeriodSeconds"] > stopping
    assert settings.graceful_timeout >= settings.request_timeout


def test_pods_may_do_nothing_but_answer(pod: Manifest, container: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == 10001
    assert "USER 10001:10001" in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    policy = load(FOLDER / "networkpolicy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    namespace = load(FOLDER / "namespace.yaml")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def test_volumes_are_mounted(pod: Manifest, container: Manifest) -> None:
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    # gunicorn.conf.py puts heartbeats and metrics there: the only writable place.
    assert mounts["shm"]["mountPath"] == "/dev/shm"  # noqa: S108
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
    assert all("subPath" not in mount for mount in mounts.values())


def test_an_own_model_is_read_from_a_mounted_folder() -> None:
    whole = merged(load(FOLDER / "deployment.yaml"), load(OWN_MODEL / "deployment.yaml"))
    pod = whole["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "models")
    assert mount["readOnly"] is True
    assert Settings.from_environ(environ).model.parent == Path(mount["mountPath"])
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "models")
    claim = load(OWN_MODEL / "persistentvolumeclaim.yaml")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_keda_replaces_the_autoscaler() -> None:
    """No schema of Kubernetes' own: its shape is that of KEDA's v1alpha1."""
    scaled = load(FOLDER / "scaledobject.yaml")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec, scaler = scaled["spec"], load(FOLDER / "horizontalpodautoscaler.yaml")["spec"]
    assert spec["scaleTargetRef"]["name"] == scaler["scaleTargetRef"]["name"]
    bounds = (spec["minReplicaCount"], spec["maxReplicaCount"])
    assert bounds == (scaler["minReplicas"], scaler["maxReplicas"])
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == scaler["behavior"]
    cpu, in_flight = spec["triggers"]
    (resource,) = scaler["metrics"]
    target = resource["resource"]["target"]
    assert cpu == {
        "type": resource["resource"]["name"],
        "metricType": target["type"],
        "metadata": {"value": str(target["averageUtilization"])},
    }
    assert in_flight["type"] == "prometheus"
    assert set(in_flight["metadata"]) == {"serverAddress", "query", "threshold"}
    assert int(in_flight["metadata"]["threshold"]) < IN_FLIGHT_PER_CORE
    assert_metrics_exist(in_flight["metadata"]["query"])


def test_service_monitor_finds_the_service(routes: set[str]) -> None:
    """No schema of Kubernetes' own: its shape is that of the Prometheus Operator's v1."""
    monitor, service = load(FOLDER / "servicemonitor.yaml"), load(FOLDER / "service.yaml")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor) == {"apiVersion", "kind", "metadata", "spec"}
    spec = monitor["spec"]
    assert set(spec) == {"selector", "jobLabel", "endpoints"}
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert set(endpoint) == {"port", "path", "interval"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in routes
    # The alerts ask for this job.
    assert service["metadata"]["labels"][spec["jobLabel"]] == "labelserve"
    alerts = (ROOT / "docker" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    assert 'up{job="labelserve"}' in alerts


def test_the_jobs_shards_are_those_of_its_pods(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command is run as a pod would: each image is answered once, and status 1 is success.

    Of a model that is not there the status is that of the failure policy.
    """
    spec = load(FOLDER / "offline" / "job.yaml")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # a failure policy needs it
    (container,) = spec["template"]["spec"]["containers"]
    shell, flag, command = container["command"]
    images, answers = tmp_path / "images", tmp_path / "answers"
    images.mkdir()
    answers.mkdir()
    for number in range(40):
        (images / f"{number}.jpg").write_bytes(b"broken")
    command = command.replace("models/default.onnx", str(tiny_model))
    command = command.replace(" /images", f" {images}").replace(" /answers", f" {answers}")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        subprocess.run([shell, flag, command], cwd=ROOT, check=True)
    rows = [line for file in answers.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert sorted(json.loads(row)["file"] for row in rows) == sorted(map(str, images.iterdir()))
    assert len([*answers.glob("*.jsonl")]) == spec["completions"]

    (refused, _) = spec["podFailurePolicy"]["rules"]
    without = command.replace(str(tiny_model), f"{tmp_path}/missing.onnx")
    done = subprocess.run([shell, flag, without], cwd=ROOT, capture_output=True, check=False)
    assert [done.returncode] == refused["onExitCodes"]["values"]


def test_the_jobs_command_in_the_guide_ends_with_the_same_status() -> None:
    (container,) = load(FOLDER / "offline" / "job.yaml")["spec"]["template"]["spec"]["containers"]
    guide = (ROOT / "docs" / "offline.md").read_text(encoding="utf-8").replace("\\\n", "")
    assert " ".join(container["command"][2].split()) in " ".join(guide.split())


def test_the_job_has_memory_for_its_processes() -> None:
    (container,) = load(FOLDER / "offline" / "job.yaml")["spec"]["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    machine = Machine(int(limits["cpu"]), int(limits["memory"].removesuffix("Gi")) << 30)
    assert processes_for(machine, model_size(DEFAULT_MODEL)) == machine.cores
