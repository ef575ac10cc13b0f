"""Outputs: what they keep of an earlier run, and when Parquet's parts are closed."""

from pathlib import Path

import pytest

from service.batch import outputs
from service.batch.answers import Ranked
from service.batch.outputs import FileOutput, PartsOutput, remove
from service.batch.parquet import table_bytes
from service.inference.classifier import Prediction


def rows(images: int) -> bytes:
    answer = Ranked([Prediction("red", 0.9), Prediction("green", 0.1)])
    return table_bytes([(f"{n}.jpg", answer) for n in range(images)], has_familiarity=False)


def parts(folder: Path) -> PartsOutput:
    pytest.importorskip("pyarrow")
    return PartsOutput(folder, 0, has_familiarity=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_part_is_closed_when_it_is_large_or_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = parts(tmp_path / "out")
    output.write(rows(5))
    assert output.settle() is None
    monkeypatch.setattr(outputs, "PART_ROWS", 20)
    output.write(rows(5))
    assert output.settle() == 1
    output.write(rows(1))
    assert output.settle() is None
    monkeypatch.setattr(outputs, "PART_SECONDS", 0.0)
    assert output.settle() == 2
    assert output.settle() == 2  # no part without rows
    output.close()
    assert names(tmp_path / "out") == ["part-00000.parquet", "part-00001.parquet"]


def test_an_output_without_rows_tells_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    output = parts(tmp_path / "out")
    assert output.settle(last=True) == 1
    output.close()
    assert parquet.read_table(tmp_path / "out").column_names[0] == "file"


def test_many_rows_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "_GROUP_ROWS", 20)
    output = parts(tmp_path / "out")
    for _ in range(5):
        output.write(rows(11))
        assert output._held_rows < 20
    assert output.settle(last=True) == 1
    output.close()


def test_what_an_earlier_run_left_beyond_its_journal_is_removed(tmp_path: Path) -> None:
    first = parts(tmp_path / "out")
    first.write(rows(1))
    first.settle(last=True)
    first.close()
    (tmp_path / "out" / "part-00001.parquet").write_bytes(b"PAR1")
    (tmp_path / "out" / ".part.draft").write_bytes(b"PAR1")
    PartsOutput(tmp_path / "out", 1, has_familiarity=False).close()
    assert names(tmp_path / "out") == ["part-00000.parquet"]


def test_other_files_in_a_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    remove(tmp_path)
    assert names(tmp_path) == ["notes.txt"]


def test_a_file_is_cut_back(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_bytes(b"whole\ntorn")
    output = FileOutput(tmp_path / "out.csv", 6)
    output.write(b"more\n")
    assert output.settle() == 11
    output.close()
    assert (tmp_path / "out.csv").read_bytes() == b"whole\nmore\n"
