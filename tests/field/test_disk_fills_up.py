"""The disk is full in the middle of a run: what is kept is said, and --resume goes on with it."""

import threading
import time
from pathlib import Path

import pytest

from tests.training.conftest import fill_folder
from training import pipeline
from training.config import TrainConfig
from training.errors import RunError
from training.fitting import checkpoint

SIZE = 24 * 2**20


def fill(folder: Path, log: Path) -> None:
    """Fill the disk as soon as an epoch is saved."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) > 1:
            break
        time.sleep(0.01)
    with (folder / "film").open("wb", buffering=0) as film:
        while time.monotonic() < deadline:
            try:
                film.write(bytes(2**16))
            except OSError:
                return


def test_what_was_kept_is_said_and_the_run_can_go_on(tmp_path: Path, small_disk: Path) -> None:
    config = TrainConfig(
        dataset="folder",
        data=fill_folder(tmp_path / "photos"),
        epochs=40,
        image_size=(16, 16),
        batch_size=16,
        output=small_disk / "model.onnx",
    )
    other = threading.Thread(target=fill, args=(small_disk, config.run_folder / checkpoint.LOG))
    other.start()

    with pytest.raises(RunError, match="No space left on device") as error:
        pipeline.train(config)
    other.join()

    saved = checkpoint.load(config.run_folder)
    assert saved is not None
    assert 0 < saved.epochs < 40
    assert f"epoch {saved.epochs} of 40 is kept in {config.run_folder}" in str(error.value)
    assert "--resume" in str(error.value)
    assert "\n" not in str(error.value)
    (small_disk / "film").unlink()

    pipeline.train(config, resume=True)

    assert config.output.exists()
