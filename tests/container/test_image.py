"""What the image is made of, and what it leaves out."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from tests.container.conftest import MODEL, ROOT
from tests.container.engine import Container, Engine

LOCK = "requirements/serve.txt"
LOCKS = (LOCK, "requirements/otel.txt", "requirements/parquet.txt")
MEGABYTE = 1_000_000
BASE = "python:3.13-slim-trixie"

# Inside the container: every folder that this user can make a file in.
FIND_WRITABLE = """
import os
for folder, folders, _ in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/proc", "/sys")]
    probe = os.path.join(folder, ".probe")
    try:
        open(probe, "x").close()
    except OSError:
        continue
    os.unlink(probe)
    print(folder)
"""

FIND_FILES = """
import os
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/proc", "/sys", "/dev")]
    for name in [*folders, *files]:
        print(os.path.join(folder, name))
"""

FIND_UNCOMPILED = """
import sys, os, pkgutil, importlib, service, gunicorn.app.wsgiapp
for module in pkgutil.walk_packages(service.__path__, "service."):
    importlib.import_module(module.name)
for name, module in list(sys.modules.items()):
    cached = getattr(module.__spec__, "cached", None)
    if cached and not os.path.exists(cached):
        print(name)
"""

FIND_PACKAGES = """
import importlib.metadata, json, sys
own = [path for path in sys.path if path.startswith("/opt/venv")]
names = {found.metadata["Name"] for found in importlib.metadata.distributions(path=own)}
print(json.dumps([name.lower().replace("_", "-") for name in names]))
"""


@pytest.fixture(scope="module")
def added_files(engine: Engine, image: str) -> set[str]:
    """Files and folders that the base does not have."""
    command = (
        "run",
        "--rm",
        "--network",
        "host",
        "--user",
        "0",
        "--entrypoint",
        "/usr/local/bin/python3",
    )
    listed = [engine.call(*command, which, "-c", FIND_FILES).stdout for which in (image, BASE)]
    return set(listed[0].splitlines()) - set(listed[1].splitlines())


def test_the_build_sees_only_what_it_copies(
    engine: Engine, context: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The context as the engine gets it, from a checkout with environments, data and runs in it."""
    all_of_it = f"FROM {BASE}\nCOPY . /context/\nWORKDIR /context"
    image = engine.build(context, tmp_path / "id", dockerfile=all_of_it)
    try:
        listed = engine.call(
            "run", "--rm", "--network", "host", image, "find", "-type", "f", "-size", "+0"
        )
        sizes = engine.call("run", "--rm", "--network", "host", image, "du", "-sb", ".")
    finally:
        engine.call("rmi", "--force", image)
    names = {name.removeprefix("./") for name in listed.stdout.split()}
    expected = {
        str(path.relative_to(context))
        for ending in ("py", "html", "css", "js")
        for path in (context / "service").rglob(f"*.{ending}")
        if path.stat().st_size
    }
    expected |= {str(MODEL), "docker/healthcheck.py", *LOCKS}
    assert names - {"Dockerfile", ".dockerignore"} == expected
    size = int(sizes.stdout.split()[0])
    with capsys.disabled():
        print(f"\n  build context: {size / 1000:.0f} kB in {len(names)} files")  # noqa: T201
    assert size < 10 * MEGABYTE


def test_the_image_adds_less_than_200_megabytes(
    engine: Engine, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    added = (engine.inspect(image)["Size"] - engine.inspect(BASE)["Size"]) / MEGABYTE
    with capsys.disabled():
        print(f"\n  image: {added:.1f} MB over its base")  # noqa: T201
    assert 0 < added <= 200


def test_both_stages_stand_on_the_base_that_the_size_is_measured_against() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == [BASE, BASE]


def test_nothing_committed_for_the_image_names_a_registry_or_this_machine() -> None:
    for name in ("Dockerfile", ".dockerignore", "docker/healthcheck.py", *LOCKS):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://|index-url|find-links|pypi|/(work|root)/", text), name


def test_what_an_orchestrator_reads(engine: Engine, image: str) -> None:
    config = engine.inspect(image)["Config"]
    user, group = map(int, config["User"].split(":"))
    assert user > 0 < group
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert config["Entrypoint"][0].startswith("/")  # no shell: signals reach the service
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config.get("StopSignal") in (None, "SIGTERM")


def test_what_the_image_says_of_itself(engine: Engine, image: str) -> None:
    """Built without arguments: what nobody has said is not made up."""
    labels = engine.inspect(image)["Config"]["Labels"]
    said = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in labels.items()
        if name.startswith("org.opencontainers.image.")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert said == {
        "title": project["name"],
        "description": "Images in, calibrated per-label probabilities out, over HTTP",
        "licenses": "MIT",
        "version": project["version"],
        "revision": "unknown",
        "created": "",
        "source": "",
        "documentation": "",
        "base.name": BASE,
    }


def test_only_the_locked_packages_are_inside(service: Container) -> None:
    inside = set(json.loads(service.execute(FIND_PACKAGES)))
    lock = (ROOT / LOCK).read_text()
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", lock, re.MULTILINE))
    assert {"flask", "gunicorn", "onnxruntime"} <= inside <= locked
    assert not inside & {"tensorflow", "keras", "onnx", "matplotlib", "pip", "setuptools"}


def test_no_compiler_cache_or_other_parts_of_the_project_inside(added_files: set[str]) -> None:
    unwanted = re.compile(
        r"/(gcc.*|cc1?|ld|make|apt|pip|\.cache|\.git|tests|training|tensorflow|keras)$|\.(whl|deb|c|h|pxd|pxi|pyi|pyx)$"
    )
    assert [name for name in added_files if unwanted.search(name)] == []
    of_others = (
        r"/(opt/venv|app|usr/local/lib/python3\.13|proc|sys|dev|etc)(/|$)|/(opt|\.dockerenv)$"
    )
    assert [name for name in added_files if not re.match(of_others, name)] == []
    assert {"/app/models/default.onnx", "/app/service"} <= added_files


def test_every_module_is_compiled(service: Container) -> None:
    """Nothing inside can write bytecode: what is missing, each worker compiles at every start."""
    assert service.execute(FIND_UNCOMPILED).split() == []


def test_no_path_inside_is_writable_but_shared_memory(service: Container) -> None:
    """What is writable is memory that every container gets: shared, and for message queues."""
    writable = set(service.execute(FIND_WRITABLE).splitlines())
    inside_shm = {name for name in writable if name.startswith("/dev/shm/")}  # noqa: S108
    assert writable - inside_shm <= {"/dev/shm", "/dev/mqueue"}  # noqa: S108
    assert "/dev/shm" in writable  # noqa: S108  the probe finds what there is


def test_nothing_runs_as_root(service: Container, engine: Engine, image: str) -> None:
    user = int(engine.inspect(image)["Config"]["User"].split(":")[0])
    assert {uid for uid, _ in service.processes} == {user}


def test_the_model_inside_is_the_one_of_the_checkout(
    service: Container, classifier: Classifier
) -> None:
    status, card = service.ask("GET", "/model")
    assert status == 200
    assert card == json.loads(classifier.card.without_images().to_json())


def test_the_default_model_is_committed() -> None:
    if not (ROOT / MODEL).exists():
        pytest.skip(
            f"THE REAL IMAGE IS NOT TESTED: {MODEL} is missing, a tiny model took its place"
        )
    assert (ROOT / MODEL).stat().st_size < 8 * MEGABYTE
