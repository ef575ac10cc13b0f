"""The documentation is complete, and true where that can be asked of the code."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from service.http.openapi.document import document
from service.runtime.metrics import Metrics
from service.runtime.shared_state import SharedState
from service.serving.problems import KINDS
from service.settings import DEFAULT_MODEL, Settings, variable_name
from tests.images import encode
from tests.monitoring import files
from tests.server import ROOT, start_server

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
API = (DOCS / "api.md").read_text(encoding="utf-8")
CLIENTS = (DOCS / "clients.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def first_words(text: str) -> list[str]:
    """What stands in code type in the first column of a page's tables."""
    return [name for cells in rows(text) for name in re.findall(r"`([^`]+)`", cells[0])]


def as_documented(value: Any) -> str:
    """A setting's default as it would be written in the environment."""
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if value == DEFAULT_MODEL:
        return str(DEFAULT_MODEL.relative_to(ROOT))
    return f"{value:g}" if isinstance(value, float) else str(value)


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def try_example(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Runs a command of the README as on its reader's machine, but for the port: what it prints."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "cat.jpg").write_bytes(encode(Image.new("RGB", (60, 40), (200, 40, 90)), "JPEG"))
    with start_server(tiny_model) as server:

        def run(*command: str) -> str:
            assert "127.0.0.1:8000" in "".join(command)
            done = subprocess.run(
                [word.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}") for word in command],
                cwd=folder,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def examples(language: str) -> list[str]:
    """What the README asks a running service, in one language."""
    section = README.partition("\n## Ask it\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def test_the_readmes_example_in_python_works(try_example: Callable[..., str]) -> None:
    (code,) = examples("python")
    label, probability = try_example(sys.executable, "-c", code).split()
    assert label == "red"
    assert 0.5 < float(probability) <= 1


@pytest.mark.parametrize("line", re.findall("^curl .+", examples("sh")[0], re.MULTILINE))
def test_the_readmes_examples_with_curl_work(try_example: Callable[..., str], line: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("THE README'S EXAMPLES ARE NOT TESTED: there is no curl")
    answer = json.loads(try_example(*shlex.split(line)))
    assert answer["predictions"][0]["label"] == "red", answer


def test_programs_of_clients_are_shown_as_they_are_tested() -> None:
    block = r"\]\(\.\./tests/clients/(\S+)\):\n\n```\w+\n(.*?)^```$"
    shown = dict(re.findall(block, CLIENTS, re.MULTILINE | re.DOTALL))
    files = sorted((ROOT / "tests" / "clients").iterdir())
    texts = {file.name: file.read_text("utf-8") for file in files if file.suffix in (".py", ".sh")}
    tested = {
        name: text
        for name, text in texts.items()
        if name.endswith(".sh") or "ADDRESS, *FILES = sys.argv[1:]" in text
    }
    assert len(tested) >= 9
    assert shown == tested


def test_settings_are_all_documented_and_no_others() -> None:
    documented = [name for name in first_words(SETTINGS) if name != "variable"]
    assert sorted(documented) == sorted(map(variable_name, Settings.__struct_fields__))


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_a_settings_default_is_the_true_one(field: msgspec.structs.FieldInfo) -> None:
    (cells,) = [cells for cells in rows(SETTINGS) if cells[0] == f"`{variable_name(field.name)}`"]
    code = re.match(r"`([^`]*)`", cells[1])
    assert (code.group(1) if code else cells[1]) == as_documented(field.default)
    assert len(cells[2]) > 10


def test_settings_that_pages_speak_of_exist() -> None:
    known = {variable_name(field) for field in Settings.__struct_fields__}
    for page in PAGES:
        if page == CHANGELOG:  # it names settings that are no more
            continue
        spoken = set(re.findall(r"\bLABELSERVE_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        assert spoken <= known, page.name


def test_routes_that_are_described_are_all_documented() -> None:
    """In a heading or a table; below a model, with or without a version is one route."""
    headings = re.findall(r"^## (GET|POST) (/.*?)(?: \(.+\))?$", API, re.MULTILINE)
    documented = {(method, path) for method, paths in headings for path in paths.split(", ")}
    documented |= set(re.findall(r"^\| `(GET|POST) (/.*?)`", API, re.MULTILINE))
    described = {
        (method.upper(), re.sub(r"/(versions|labels)/\{\w+\}", "", path))
        for path, methods in document(Settings())["paths"].items()
        for method in methods
    }
    assert documented == described


def test_problems_are_all_documented_with_their_status() -> None:
    documented = {
        (int(status), slug)
        for cells in rows(API)
        if len(cells) == 3 and re.match(r"\d", cells[0])
        for status in cells[0].split(", ")
        for slug in re.findall(r"`([a-z-]+)`", cells[1])
    }
    assert documented == {(kind.status, kind.slug) for kind in KINDS.values()}


def test_statuses_of_the_api_all_have_somebody_to_act() -> None:
    def statuses(text: str) -> set[str]:
        return {s for cells in rows(text) for s in re.findall(r"^\d{3}|(?<=, )\d{3}", cells[0])}

    section = OPERATIONS.partition("\n## Statuses\n")[2].partition("\n## ")[0]
    assert statuses(API)
    assert statuses(API) | {"200"} <= {s for c in rows(section) for s in re.findall(r"\d{3}", c[0])}


def test_metrics_are_all_documented_and_no_others() -> None:
    section = OPERATIONS.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    text = Metrics(SharedState(1), 0).to_text().decode()
    exported = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    kinds = {name: kind for name, kind in exported.items() if not name.endswith("_created")}
    documented = {
        cells[0].strip("`"): re.split(r"[;,]", cells[1])[0]
        for cells in rows(section)
        if cells[0].startswith("`")
    }
    assert documented == kinds


def test_alerts_are_all_documented_and_no_others() -> None:
    section = OPERATIONS.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^### (\w+)\n\n(\w+):", section, re.MULTILINE)
    rules = [(alert.name, alert.content["labels"]["severity"]) for alert in files.alerts()]
    assert sorted(documented) == sorted(rules)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_make_targets_that_pages_speak_of_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", text, re.MULTILINE))
        assert named <= targets, page.name


def test_modules_that_the_architecture_speaks_of_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_.]+\.py)`", ARCHITECTURE))
    assert len(named) > 8
    missing = [n for n in named if not any((ROOT / top / n).is_file() for top in ("", "service"))]
    assert not missing


@pytest.mark.parametrize("top", ["service", "training"])
def test_packages_are_all_in_the_architecture_and_no_others(top: str) -> None:
    packages = {f"{top}/{file.parent.name}" for file in (ROOT / top).glob("*/__init__.py")}
    assert set(re.findall(rf"^\| `({top}/[a-z_]+)` \|", ARCHITECTURE, re.MULTILINE)) == packages


def options_of(*command: str) -> set[str]:
    """The long options that a command's help lists."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout))


def test_training_options_that_pages_speak_of_exist() -> None:
    """In the guide everywhere, elsewhere in commands: experiments have sections on removed ones."""
    training = (DOCS / "training.md").read_text(encoding="utf-8")
    commands = [
        command
        for page in PAGES
        for command in re.findall(
            r"python -m training -(?:\\\n|[^\n`])*", page.read_text(encoding="utf-8")
        )
    ]
    spoken = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join([training, *commands])))
    assert spoken <= options_of("training") | options_of("training", "familiarity")


def test_the_version_has_its_section_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    heading = rf"^## \[{re.escape(project['version'])}\] - \d{{4}}-\d\d-\d\d$"
    assert re.search(heading, CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)
