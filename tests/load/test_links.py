"""Memory does not grow with the number of images. `python -m tests.load.links` has 100,000."""

import tracemalloc
from pathlib import Path

import pytest

from service.__main__ import main
from service.batch import processes
from tests.load.links import write_tar
from tests.tiny_model import make_card, write_model


def peak(model: Path, source: Path, output: Path) -> int:
    """The most bytes of Python's objects during a command."""
    tracemalloc.start()
    try:
        assert main(["predict", str(model), str(source), f"--output={output}"]) == 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_source_ten_times_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A pool of processes would be started on a busy machine, and has objects of its own.
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 1e9)
    model = write_model(tmp_path / "tiny.onnx", make_card())
    short, long = (write_tar(tmp_path / f"{n}.tar.gz", n) for n in (200, 2000))
    peak(model, short, tmp_path / "first.csv")  # what is made once
    little = peak(model, short, tmp_path / "short.csv")
    much = peak(model, long, tmp_path / "long.csv")
    assert len((tmp_path / "long.csv").read_bytes().splitlines()) == 6001
    assert much < little + 500_000  # the rows alone would be a megabyte with their objects
