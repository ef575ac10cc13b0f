"""Issue 17, 28: labels of any script go to files and pipes as UTF-8, whatever the code page."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.inference.contract import ModelCard
from tests.images import encode, photograph
from tests.server import ROOT
from tests.tiny_model import make_card, write_model

LABELS = ("猫", "собака", "köpek")


def run(*words: object, code_page: str = "cp1252") -> subprocess.CompletedProcess[bytes]:
    """A command on a system of this code page, that stops where a file is opened without one."""
    environment = {**os.environ, "PYTHONIOENCODING": code_page}
    return subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-m", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("模型") / "кошки.onnx", make_card(LABELS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("фото")
    for number, label in enumerate(LABELS):
        (folder / label).mkdir()
        (folder / label / "画.png").write_bytes(encode(photograph(number, 20, 20), "PNG"))
    return folder


def test_evaluate(model: Path, folder: Path) -> None:
    (folder / "猫" / "坏.jpg").write_bytes(b"no image")

    done = run("training", "evaluate", model, "--data", folder)

    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.decode().splitlines()[-3:]] == [*LABELS]
    assert "猫/坏.jpg: " in done.stderr.decode()
    assert "EncodingWarning" not in done.stderr.decode()


def test_evaluate_as_json(model: Path, folder: Path) -> None:
    done = run("training", "evaluate", model, "--data", folder, "--json")

    assert done.returncode == 0, done.stderr
    assert {*json.loads(done.stdout.decode())["per_label"]} == {*LABELS}


def test_an_error_names_the_label(model: Path, tmp_path: Path) -> None:
    (tmp_path / "мышь").mkdir()

    done = run("training", "evaluate", model, "--data", tmp_path)

    assert done.returncode == 1
    assert "does not know: мышь; it knows 猫, собака, köpek" in done.stderr.decode()


def test_card(model: Path) -> None:
    done = run("service", "card", model)

    assert done.returncode == 0, done.stderr
    assert ModelCard.from_json(done.stdout).labels == LABELS
    assert "собака" in done.stdout.decode()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("code_page", ["cp1252", "ascii", "utf-16"])
def test_predict(model: Path, folder: Path, form: str, code_page: str) -> None:
    file = folder / "猫" / "画.png"

    done = run("service", "predict", model, file, "--format", form, code_page=code_page)

    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    if form == "csv":
        rows = [*csv.DictReader(io.StringIO(text))]
        found = [(row["file"], row["label"]) for row in rows]
    else:
        line = json.loads(text)
        found = [(line["file"], row["label"]) for row in line["predictions"]]
    assert {name for name, _ in found} == {str(file)}
    assert {label for _, label in found} == {*LABELS}


@pytest.mark.skipif(sys.platform == "win32", reason="there a console takes all of Unicode")
def test_a_terminal_keeps_its_own_and_shows_what_it_cannot_as_numbers(model: Path) -> None:
    import pty

    end, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    with subprocess.Popen(
        [sys.executable, "-m", "service", "card", str(model)],
        cwd=ROOT,
        env=environment,
        stdout=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        while b"\n}" not in shown:
            shown += os.read(end, 65536)
        os.close(end)
    assert process.returncode == 0
    assert "köpek".encode("cp1252") in shown
    assert rb"\u732b" in shown
