"""Left and right hands as labels: mirrored, each is an image of the other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training import pipeline
from training.autoconfig import complete
from training.config import TrainConfig, from_options
from training.data.loading import load
from training.options import RUN_FILE, read_toml

LABELS = {"left": 7, "middle": 15, "right": 23}  # where the pole of a flag stands


def flags(folder: Path, labels: dict[str, int], images: int) -> Path:
    """A folder of poles on noise, each at its label's place and slightly beside it."""
    rng = np.random.default_rng(0)
    for label, x in labels.items():
        (folder / label).mkdir(parents=True)
        for number in range(images):
            noise = rng.normal(120, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(noise)
            left, top = x + int(rng.integers(-2, 3)), int(rng.integers(0, 4))
            ImageDraw.Draw(image).rectangle((left, top, left + 3, top + 26), fill=(250, 240, 200))
            image.save(folder / label / f"{number:03d}.png")
    return folder


def options(folder: Path, **more: object) -> tuple[TrainConfig, frozenset[str]]:
    given = {"data": folder, "epochs": 1, "output": folder.with_suffix(".onnx"), **more}
    chosen, undecided = complete(given)
    return from_options(chosen), undecided


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flags(tmp_path_factory.mktemp("flags") / "hands", LABELS, images=60)


def test_mirroring_is_left_off_and_stays_off(
    hands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One label of three bears it; that is not enough."""
    config, undecided = options(hands)
    assert undecided == {"flip"}

    card = pipeline.train(config, undecided=undecided)

    assert "mirroring off (--flip for it): mirror images cost" in capsys.readouterr().err
    assert card.provenance.config["flip"] is False
    assert "--no-flip" in card.provenance.command
    saved = read_toml(config.run_folder / RUN_FILE)
    assert saved["flip"] is False
    assert not complete(saved)[1]

    again = pipeline.train(config, undecided=undecided, resume=True)

    assert "mirroring" not in capsys.readouterr().err  # the run has decided it
    assert again.provenance.config["flip"] is False


def test_mirroring_stays_on_where_the_answers_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.fitting.trial import decided  # starts TensorFlow

    rows = flags(tmp_path / "rows", {"middle": 15, "nothing": 40}, images=60)
    config, undecided = options(rows)

    assert decided(config, undecided, load(config)).flip

    assert "mirroring on (--no-flip against it): mirror images cost" in capsys.readouterr().err


def test_a_few_images_cannot_tell_and_are_not_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.fitting.trial import decided  # starts TensorFlow

    config, undecided = options(flags(tmp_path / "few", LABELS, images=6))

    assert decided(config, undecided, load(config)).flip

    said = capsys.readouterr().err
    assert "too few validation images" in said
    assert "--no-flip if they do" in said
    assert "trial:" not in said


@pytest.mark.parametrize("given", [{"flip": True}, {"flip": False}, {"mirrored_filters": True}])
def test_who_says_it_is_not_asked(hands: Path, given: dict[str, bool]) -> None:
    config, undecided = options(hands, **given)

    assert not undecided
    assert config.flip is given.get("flip", True)


def test_time_is_found_out_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.fitting import trial

    config, undecided = options(flags(tmp_path / "flags", LABELS, images=6), epochs=1)
    config = dataclasses.replace(config, flip=True)

    few = trial.decided(config, undecided | {"epochs"}, load(config))

    assert few.epochs == trial.MOST_EPOCHS  # of fourteen images
    assert "(--max-minutes or --epochs for more)" in capsys.readouterr().err
