"""The disk is full in the middle of a folder: one line says so, and --resume goes on."""

import json
import subprocess
from pathlib import Path

import pytest

from service.__main__ import main
from service.batch import outputs
from service.batch import run as run_module
from tests.images import encode, photograph

SIZE = 2**18
IMAGES = 3000


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is brought to disk after each piece of work."""
    monkeypatch.setattr(run_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(outputs, "PART_SECONDS", 0.0)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_it_goes_on_when_there_is_room(
    tiny_model: Path,
    tmp_path: Path,
    small_disk: Path,
    form: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    image = tmp_path / "a.jpg"
    image.write_bytes(encode(photograph(1, 20, 20), "JPEG"))
    (tmp_path / "list").write_text(f"{image}\n" * IMAGES)
    output = small_disk / f"out.{form}"
    film = small_disk / "film"
    film.write_bytes(bytes(SIZE // 2))
    asked = ["predict", str(tiny_model), f"--from={tmp_path / 'list'}", f"--output={output}"]

    assert main(asked) == 3

    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert "--resume goes on" in line
    film.unlink()
    subprocess.run(["mount", "-o", "remount,size=4M", str(small_disk)], check=True)
    assert main([*asked, "--resume"]) == 0
    assert rows_of(output) == IMAGES


def rows_of(output: Path) -> int:
    """Images that have rows, each once."""
    if output.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return int(parquet.read_table(output).num_rows) // 3
    lines = output.read_text(encoding="utf-8").splitlines()
    if output.suffix == ".csv":
        return (len(lines) - 1) // 3
    assert all("predictions" in json.loads(line) for line in lines)
    return len(lines)
