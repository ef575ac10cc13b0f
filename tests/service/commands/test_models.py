"""python -m service models: what its user sees."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.__main__ import main
from service.inference.layout import read_model_layout
from tests.server import ROOT
from tests.tiny_model import make_card, write_model

# Arguments behind ``models``; the exit status, standard output and standard error.
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["models", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        (tmp_path / "pets" / str(number)).mkdir(parents=True)
        write_model(tmp_path / "pets" / str(number) / "m.onnx", make_card(version=f"card {number}"))
    return tmp_path / "pets"


def test_a_label_is_moved_listed_and_moved_back(folder: Path, run: Run) -> None:
    assert run("label", folder, "stable", 1) == (0, f"stable of {folder} is version 1 now\n", "")
    status, told, _ = run("label", folder, "stable", 2)
    assert (status, told) == (0, f"stable of {folder} is version 2 now, before it was 1\n")
    run("label", folder, "canary", 2)
    assert run("list", folder)[1].splitlines() == [
        "FOLDER  VERSION  LABELS          CARD",
        "pets    1                        card 1",
        "pets    2        canary, stable  card 2",
    ]
    assert run("rollback", folder)[:2] == (
        0,
        f"stable of {folder} is version 1 now, before it was 2\n",
    )
    assert read_model_layout(folder).labels == {"stable": 1, "canary": 2}


def test_what_is_refused_is_listed_with_its_reason(folder: Path, run: Run) -> None:
    (folder / "3").mkdir()
    (folder / "4").mkdir()
    shutil.copytree(folder / "1", folder / "4" / "export")
    (folder / "stable").symlink_to("7")
    status, told, problems = run("list", folder.parent)
    assert status == 1
    assert "pets    3                refused\n" in told
    assert "pets    4                refused\n" in told
    assert f"label 'stable' of {folder} leads nowhere by its link" in problems
    assert f"model folder {folder}/3 has no .onnx file: it is empty" in problems


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("label", "stable", 3), "version 3 cannot be used: model folder .*/3 has no .onnx file"),
        (("label", "stable", 4), "version 4 cannot be used: model folder .*/4 has no .onnx file"),
        (("label", "stable", 7), "has no version 7: there are 1, 2, 3, 4"),
        (("label", "7", 1), "'7' is no label"),
        (("rollback",), "label 'stable' of .* has led to no other version"),
    ],
)
def test_a_label_that_cannot_be_moved(
    folder: Path, run: Run, arguments: tuple[object, ...], told: str
) -> None:
    (folder / "3").mkdir()
    (folder / "4").mkdir()  # the service does not look deeper
    shutil.copytree(folder / "1", folder / "4" / "export")
    action, *rest = arguments
    status, _, error = run(action, folder, *rest)
    assert status == 2
    assert error.count("\n") == 1
    assert re.search(told, error)
    assert not read_model_layout(folder).labels


def test_several_models_have_to_be_named_and_nothing_is_found_in_none(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "signs").mkdir()
    write_model(tmp_path / "signs" / "m.onnx", make_card())
    status, _, error = run("label", tmp_path, "stable", 1)
    assert status == 2
    assert f"name one of them: {folder}, {tmp_path / 'signs'}" in error
    assert run("list", tmp_path)[0] == 0
    (tmp_path / "none").mkdir()
    status, _, error = run("list", tmp_path / "none")
    assert (status, error) == (
        2,
        f"model folder {tmp_path / 'none'} has no .onnx file: it is empty\n",
    )


def test_a_version_that_is_no_number_is_said_by_the_parser() -> None:
    command = [sys.executable, "-m", "service", "models", "label", "x", "stable", "two"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "two is no whole number of at least 1" in done.stderr
