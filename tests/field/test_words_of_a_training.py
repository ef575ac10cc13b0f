"""What a training says: values with names, an epoch once it is saved, and what comes next."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.training.conftest import fill_folder
from training import pipeline, progress
from training.cli import COMMANDS
from training.config import TrainConfig
from training.fitting import checkpoint, loop

ROOT = Path(__file__).parents[2]


def test_every_value_has_a_name_and_the_end_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An epoch's line comes when the epoch is in the checkpoint, and not before."""
    config = TrainConfig(
        dataset="folder",
        data=fill_folder(tmp_path / "my photos"),
        image_size=(16, 16),
        epochs=2,
        batch_size=16,
        output=tmp_path / "pets.onnx",
    )
    saved: list[int] = []

    def say(text: str) -> None:
        if text.startswith("epoch"):
            found = checkpoint.load(config.run_folder)
            saved.append(0 if found is None else found.epochs)
        progress.say(text)

    monkeypatch.setattr(loop, "say", say)

    pipeline.train(config)

    assert saved == [1, 2]
    lines = capsys.readouterr().err.splitlines()
    values = r"loss \d\.\d{4} accuracy \d\.\d{4}"
    epoch = rf"epoch   2  training {values}  validation {values}  \d+ s"
    assert any(re.fullmatch(epoch, line) for line in lines)
    *_, about, accuracy, _, report, explain, serve = lines
    assert re.search(r"MB, after \d+\.\d minutes$", about)
    assert re.search(r"\d % \(\d+\.\d to \d+\.\d, 95 % sure\) on 6 test images$", accuracy)
    for line, name in ((report, "report"), (explain, "explain")):
        words = shlex.split(line.split(":", 1)[1])
        assert words[:4] == ["python", "-m", "training", name]
        assert name in COMMANDS
        assert words[4] == str(config.output)
    assert shlex.split(report)[-1] == str(config.data)
    assert shlex.split(serve)[-4:] == [
        f"LABELSERVE_MODEL={config.output}",
        "python",
        "-m",
        "service",
    ]


def test_a_bar_on_a_terminal_without_rows() -> None:
    """Serial lines and some containers' terminals say that they are 0 by 0."""
    code = (
        "from training.progress import bar\n"
        "for _ in bar(range(9), desc='reading', mininterval=0): pass"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, timeout=60, check=True)

    os.close(theirs)
    said = os.read(ours, 2**16).decode()
    os.close(ours)
    assert "reading: 100%" in said
    assert "9/9" in said
