"""What is shipped is listed, has wheels for each platform, and is all asked about."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.server import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Those that the image can be made of.
LOCKS_OF_THE_IMAGE = sorted(set(re.findall(r"requirements/(\S+\.txt)", DOCKERFILE)))
(PYTHON,) = set(re.findall(r"^FROM python:([\d.]+)-slim-trixie", DOCKERFILE, re.MULTILINE))
# In uv's words. Debian trixie has glibc 2.41.
PLATFORMS = {
    "linux/amd64": "x86_64-manylinux_2_40",
    "linux/arm64": "aarch64-manylinux_2_40",
}


def locked(lock: Path) -> set[tuple[str, str]]:
    """Names and versions of a lock, for every Python and system."""
    text = lock.read_text(encoding="utf-8")
    return set(re.findall(r"^([A-Za-z0-9][\w.-]*)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("sbom") / "new" / "sbom.json"
    _make("sbom", f"SBOM={file}")
    return file.read_text(encoding="utf-8")


def test_the_bill_of_materials_is_valid(sbom: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None
    assert json.loads(sbom)["specVersion"] == "1.6"


def test_it_lists_what_the_image_is_made_of_and_nothing_else(sbom: str) -> None:
    content = json.loads(sbom)
    components = content["components"]
    pairs = [(component["name"], component["version"]) for component in components]
    (lock,) = re.findall(r"--requirement /build/(\S+)", DOCKERFILE)
    assert sorted(pairs) == sorted(locked(ROOT / "requirements" / lock))
    assert content["metadata"]["component"]["name"] == "labelserve"
    names = {name for name, _version in pairs}
    assert {"flask", "gunicorn", "httptools", "onnxruntime", "pillow", "uvloop"} <= names
    assert not names & {"tensorflow", "keras", "matplotlib", "pytest"}
    # A hash for every file: what was locked is what is listed.
    for component in components:
        assert component["purl"].startswith("pkg:pypi/")
        (source,) = component["externalReferences"]
        assert {given["alg"] for given in source["hashes"]} == {"SHA-256"}


@pytest.mark.parametrize("extra", ["otel", "parquet"])
def test_an_extra_is_installed_beside_what_serves(extra: str) -> None:
    """pip takes both locks in one call only where they agree."""
    added = locked(ROOT / "requirements" / f"{extra}.txt")
    served = locked(ROOT / "requirements" / "serve.txt")
    assert added > served
    assert not {name for name, _version in added - served} & {name for name, _version in served}


def test_the_audit_asks_about_every_version_of_every_lock() -> None:
    said = _make("audit", "ARGS=--dry-run")
    asked = sum(int(number) for number in re.findall(r"would have audited (\d+) packages", said))
    assert asked == len(set(_everything()))


def test_the_audit_does_not_take_silence_for_safety() -> None:
    """Without --strict, a service that knows no package at all means "no known vulnerabilities"."""
    commands = _make("--dry-run", "audit")
    assert re.search(r"pip-audit .*--strict", commands.replace("\\\n", " "))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("lock", LOCKS_OF_THE_IMAGE)
def test_every_package_of_the_image_has_a_wheel_for(lock: str, platform: str) -> None:
    """One whose hash is in the lock, for the image's Python: nothing is downloaded."""
    done = _resolve(lock, PLATFORMS[platform])
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stderr


def test_a_missing_wheel_is_noticed() -> None:
    """numpy has none for a glibc as old as that."""
    done = _resolve("serve.txt", "aarch64-manylinux_2_17")
    assert done.returncode
    assert "no usable wheels" in done.stderr


def test_an_image_says_the_same_in_labels_and_in_annotations() -> None:
    """What buildx is given where it is to be had; tests/container looks at an image's labels."""
    source = "https://example.org/labelserve"
    command = _make("--dry-run", "images", "IMAGE=there/labelserve:1", f"SOURCE={source}")
    given = dict(re.findall(r"--build-arg (\w+)=(\S*)", command))
    said = dict(re.findall(r'"index,manifest:org\.opencontainers\.image\.(\w+)=(.*?)"', command))
    assert {name: value for name, value in said.items() if name.upper() in given} == {
        name.lower(): value for name, value in given.items()
    }
    labels = re.findall(r'org\.opencontainers\.image\.(\w+)="(.*)"', DOCKERFILE)
    assert set(said) == dict(labels).keys() - {"description"}
    assert (said["title"], said["licenses"]) == (dict(labels)["title"], dict(labels)["licenses"])
    assert said["documentation"] == f"{source}#readme"
    assert {"--sbom=true", "--provenance=mode=max"} <= set(command.split())


def _resolve(lock: str, platform: str) -> subprocess.CompletedProcess[str]:
    """What uv would install there; the test skips where the index cannot be reached."""
    wanted = ["--python-platform", platform, "--python-version", PYTHON, "--target", "nowhere"]
    careful = ["--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            *wanted,
            *careful,
            "--requirement",
            f"requirements/{lock}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if unreachable := re.search(r"failed to (?:fetch|connect).*", done.stderr, re.IGNORECASE):
        pytest.skip(f"THE WHEELS OF {platform} ARE NOT TESTED: {unreachable[0]}")
    return done


def _everything() -> Iterator[tuple[str, str]]:
    for lock in LOCKS:
        yield from locked(lock)


def _make(*arguments: str) -> str:
    # --old-file: the test runs in the environment that it would set up.
    done = subprocess.run(
        ["make", "--old-file", ".venv/ready", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
