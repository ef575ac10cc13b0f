"""The sets of strangers are written as the training images are, and each is what it says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from tests.benchmarks import familiarity
from tests.benchmarks.familiarity import HEAD, MADE_SETS, Scores, near, row, write_set


@pytest.mark.parametrize("name", MADE_SETS)
def test_sets_that_are_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiarity, "MADE", 15)
    write_set(tmp_path / "set", MADE_SETS[name]((24, 32)))
    files = sorted((tmp_path / "set").iterdir())
    assert len(files) == len({file.read_bytes() for file in files}) == 15
    with Image.open(files[0]) as image:
        assert image.size == (32, 24)
        assert JpegImagePlugin.get_sampling(image) == 2  # 4:2:0
        tables = image.quantization  # type: ignore[attr-defined]
        assert tables[0][:3] == [8, 6, 5]  # quality 75


def test_a_row_of_the_table() -> None:
    known = Scores(np.linspace(0.005, 0.995, 100), np.full(100, 0.9))
    strangers = Scores(np.array([0.0, 0.0, 0.04, 0.5]), np.full(4, 0.9))
    found = [cell.strip() for cell in row("some", known, strangers).strip("|\n ").split("|")]
    assert found == ["some", "4", "0.865", "0.25", "0.500", "1.00", "0.50"]


def test_near_sets_without_minutes_train_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in "abcdefghij":
        for part in ("train", "test"):
            folder = tmp_path / "data" / part / label
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "0.png")
    assert [*near(tmp_path / "data", 0.0, tmp_path / "sets")] == [HEAD]
    assert capsys.readouterr().err.count("--near MINUTES trains it") == 5
    assert not (tmp_path / "sets").exists()
