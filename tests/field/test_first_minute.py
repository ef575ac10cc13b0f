"""The first commands that somebody types: with another Python, in another folder, in one place."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.training.conftest import fill_folder
from training.cli import main
from training.config import TrainConfig
from training.fitting.checkpoint import LOG
from training.options import RUN_FILE
from training.report.command import _log_of

ROOT = Path(__file__).parents[2]


def python(*words: str, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python without this environment's packages, but for those in a folder."""
    path = {} if packages is None else {"PYTHONPATH": str(packages)}
    return subprocess.run(
        [sys.executable, "-S", *words],
        cwd=ROOT,
        env={"PATH": os.defpath, **path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [["--data", "nowhere"], ["--help"], ["report", "m.onnx"]])
def test_a_python_without_packages_is_told_what_installs_them(words: list[str]) -> None:
    done = python("-m", "training", *words)

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "numpy" in line
    assert "tensorflow" in line
    assert "make setup-training" in line


def test_a_single_missing_package_is_named_before_any_work(tmp_path: Path) -> None:
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if item.name != "tensorflow":
            (tmp_path / item.name).symlink_to(item)

    done = python("-m", "training", "--data", "nowhere", packages=tmp_path)

    (line,) = done.stderr.splitlines()
    assert "has no tensorflow: `make setup-training`" in line


def test_the_target_only_installs_and_the_command_works_from_any_folder(tmp_path: Path) -> None:
    """The recipe itself, with a `pip install` that installs nothing."""
    project = tmp_path / "a project"
    (project / "requirements").mkdir(parents=True)
    (project / "requirements" / "train.txt").touch()
    shutil.copy(ROOT / "Makefile", project)
    (project / "training").symlink_to(ROOT / "training")
    make = ["make", "setup-training", f"PYTHON={sys.executable}", "PIP=bin/python --version #"]

    made = subprocess.run(
        make, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )
    command = [str(project / ".venv-train" / "bin" / "python"), "-m", "training", "--help"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert made.returncode == 0, made.stderr
    assert ". .venv-train/bin/activate" in made.stdout
    assert "make setup-training" in done.stderr  # training's own words: it was found
    assert "make setup-training" in (ROOT / "README.md").read_text()


def test_a_model_beside_its_images_has_another_run_folder(tmp_path: Path) -> None:
    """--data pets --output pets.onnx"""
    pets = fill_folder(tmp_path / "pets", images=1)
    config = TrainConfig(data=pets, output=tmp_path / "pets.onnx")

    assert config.run_folder == tmp_path / "pets.run"
    config.run_folder.mkdir()
    (config.run_folder / LOG).write_text("epoch,loss\n1,0.5\n")
    assert _log_of(config.output, None) == {"epoch": [1.0], "loss": [0.5]}


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "photos", "--output", "file/x.onnx"],
        ["--data", "photos", "--output", "file/deeper/x.onnx"],
        ["--data", "photos", "--output", "x.onnx", "--run", "file/x"],
        ["report", "x.onnx", "--data", "photos", "--output", "file/page.html"],
        ["explain", "x.onnx", "cat.jpg", "--output", "file/page.html"],
    ],
)
def test_a_file_where_a_folder_should_be_is_named(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fill_folder(tmp_path / "photos", images=3)
    (tmp_path / "file").touch()

    assert main(words) == 1

    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written: file is a file and no folder" in last
    assert not (tmp_path / "x" / RUN_FILE).exists()
