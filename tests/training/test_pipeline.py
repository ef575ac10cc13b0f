import dataclasses
from pathlib import Path

import pytest

from training import pipeline
from training.config import TrainConfig
from training.errors import DataError, ExportError, RunError


def test_the_output_is_tried_before_the_images_are_read(
    config: TrainConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, data=tmp_path / "nowhere", output=tmp_path / "m.onnx")

    with pytest.raises(DataError, match="nowhere"):
        pipeline.train(config)
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ExportError, match=r"m\.onnx"):
        pipeline.train(config)


def test_a_missing_run_is_found_before_the_images_are_read(
    config: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        pipeline.train(dataclasses.replace(config, data=tmp_path / "nowhere"), resume=True)


def test_a_finished_run_is_exported_again_without_training(config: TrainConfig) -> None:
    first = pipeline.train(config)
    log = (config.run_folder / "log.csv").stat().st_mtime_ns
    config.output.unlink()

    again = pipeline.train(config, resume=True)

    assert config.output.exists()
    assert (config.run_folder / "log.csv").stat().st_mtime_ns == log
    assert again.version[-8:] == first.version[-8:]
    assert again.figures == first.figures
