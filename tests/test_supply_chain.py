"""make sbom and make audit: what is shipped is listed, and nothing in the locks goes unasked."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.server import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


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
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (lock,) = re.findall(r"--requirement /build/(\S+)", dockerfile)
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
