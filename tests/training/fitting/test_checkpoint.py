from pathlib import Path

import numpy as np
import pytest

from training.errors import RunError
from training.fitting import checkpoint
from training.fitting.checkpoint import Checkpoint, EpochLog

IDENTITY = {"epochs": 3, "seed": 0}
ROW = EpochLog(1, 0.001, 2.0, 0.25, 1.5, 0.5, 12.0)
SAVED = Checkpoint(IDENTITY, (ROW,), (np.ones((2, 3), np.float32), np.array(7, np.int64)))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint.save(SAVED, tmp_path / "run")

    loaded = checkpoint.load(tmp_path / "run")

    assert loaded is not None
    assert (loaded.identity, loaded.log, loaded.epochs) == (IDENTITY, (ROW,), 1)
    assert loaded.finished == SAVED.finished
    for kind in ("variables", "best"):
        for value, saved in zip(getattr(loaded, kind), getattr(SAVED, kind), strict=True):
            np.testing.assert_array_equal(value, saved)
            assert value.dtype == saved.dtype


def test_the_log_is_csv(tmp_path: Path) -> None:
    checkpoint.save(SAVED, tmp_path)

    assert (tmp_path / checkpoint.LOG).read_text() == (
        "epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy,seconds,waiting\n"
        "1,0.001,2.0,0.25,1.5,0.5,12.0,0.0\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.LOG, checkpoint.CHECKPOINT}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(RunError, match="file"):
        checkpoint.save(SAVED, tmp_path / "file" / "run")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint.save(SAVED, tmp_path)
    path = tmp_path / checkpoint.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(RunError, match=r"checkpoint\.npz cannot be read"):
        checkpoint.load(tmp_path)


def test_without_a_checkpoint_a_run_starts_anew(tmp_path: Path) -> None:
    assert checkpoint.find(tmp_path, IDENTITY, resume=False, restart=False) is None
    with pytest.raises(RunError, match="no checkpoint"):
        checkpoint.find(tmp_path, IDENTITY, resume=True, restart=False)


def test_an_unfinished_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    checkpoint.save(SAVED, tmp_path)

    with pytest.raises(RunError, match=r"stopped after epoch 1 of 3.*--resume.*--restart"):
        checkpoint.find(tmp_path, IDENTITY, resume=False, restart=False)
    assert checkpoint.find(tmp_path, IDENTITY, resume=False, restart=True) is None
    assert checkpoint.find(tmp_path, IDENTITY, resume=True, restart=False) is not None


@pytest.mark.parametrize("epochs", [0, 2, 3])  # 2: stopped early, or out of time
def test_nothing_is_lost_with_a_run_not_begun_or_finished(tmp_path: Path, epochs: int) -> None:
    saved = Checkpoint(IDENTITY, (ROW,) * epochs, (), finished=epochs > 0)
    checkpoint.save(saved, tmp_path)

    assert checkpoint.find(tmp_path, IDENTITY, resume=False, restart=False) is None


def test_a_run_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    checkpoint.save(SAVED, tmp_path)

    with pytest.raises(RunError, match="other epochs, seed"):
        checkpoint.find(tmp_path, {"epochs": 9, "seed": 1}, resume=True, restart=False)
