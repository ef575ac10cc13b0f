import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import fill_folder
from training.architectures import ARCHITECTURES, KERAS
from training.autoconfig import TRIED, Survey, complete, describe, suggestions, survey
from training.config import TrainConfig, from_options, with_meant
from training.errors import ConfigError, DataError


def found(side: int = 100, **counts: int) -> Survey:
    return Survey(Path("photos"), counts or {"cat": 500, "dog": 500}, ((side, side + 9),) * 5)


def test_a_survey_counts_labels_and_looks_at_sizes(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=4)
    Image.new("L", (300, 90)).save(folder / "red" / "wide.png")
    (folder / "red" / "broken.png").write_bytes(b"no image")

    seen = survey(folder)

    assert seen.counts == {"blue": 4, "green": 4, "red": 6}
    assert set(seen.sizes) == {(24, 20), (300, 90)}
    assert seen.side == 20
    text = describe(seen)
    assert "14 images of 3 labels" in text
    assert "green  4" in text
    assert "24x20 to 300x90, shorter side 20" in text


def test_test_images_are_not_surveyed(tmp_path: Path) -> None:
    fill_folder(tmp_path / "both" / "train", images=5)
    fill_folder(tmp_path / "both" / "test", images=3)

    assert survey(tmp_path / "both").images == 15


def test_images_that_are_held_apart_are_not_taken_off_twice(tmp_path: Path) -> None:
    for part in ("train", "Test", "valid"):
        fill_folder(tmp_path / part, images=3)

    seen, given = Survey(tmp_path, {"blue": 810, "red": 810}, ()), {"architecture": "small"}
    batch = suggestions(seen, given)["batch_size"]

    assert batch == 64  # of 1,620 images in 25 steps; of the 1,166 that would be left, 32


def test_many_labels_are_listed_several_to_a_line() -> None:
    counts = {f"label{i}": i + 1 for i in range(99)}

    text = describe(found(**counts))

    assert "1 to 99 a label, 50 in the middle" in text
    words = " ".join(text.split()) + ","
    assert all(f" {label} {count}," in words for label, count in counts.items() if count < 99)
    assert len(text.splitlines()) < 20
    assert max(map(len, text.splitlines())) <= 100


def test_all_that_is_chosen_is_said_in_the_help() -> None:
    wanted = [suggestions(found(), given) for given in ({}, {"architecture": "basic"})]
    wanted.append(dict.fromkeys(TRIED))

    chosen = {item.name for item in dataclasses.fields(TrainConfig) if item.metadata["chosen"]}
    assert set().union(*wanted) == chosen


def test_the_rate_is_that_of_the_architecture_for_its_batch() -> None:
    usual = ARCHITECTURES["small"].options
    same = {"architecture": "small", "batch_size": usual["batch_size"]}

    assert suggestions(found(), same)["learning_rate"] == usual["learning_rate"]


@pytest.mark.parametrize(
    ("side", "expected"),
    [(20, 32), (32, 32), (63, 48), (64, 64), (127, 96), (3000, 128)],
)
def test_the_size_is_one_that_most_images_have(side: int, expected: int) -> None:
    ours = suggestions(found(side), {"architecture": "small"})
    assert ours["image_size"] == (expected, expected)
    assert suggestions(found(side), {})["image_size"] == (128, 128)


def test_the_number_of_images_and_the_time_decide_the_network() -> None:
    few, some, many = (
        suggestions(found(32, cat=count, dog=count), {"max_minutes": 60, "width": 1.0})
        for count in (50, 1_000, 50_000)
    )

    assert [wanted["architecture"] for wanted in (few, some, many)] == ["small", "small", "fast"]
    for given in ({}, {"max_minutes": 5}):  # the large one would see its images twice
        assert suggestions(found(32, cat=50_000), given)["architecture"] == "small"
    assert suggestions(found(32, cat=50_000), {"epochs": 20})["architecture"] == "fast"
    assert few["batch_size"] < some["batch_size"] < many["batch_size"]
    assert few["learning_rate"] < many["learning_rate"]


@pytest.mark.parametrize(
    ("side", "images", "given", "is_chosen"),
    [
        (32, 2_000, {}, True),
        (32, 20_000, {}, False),
        (64, 20_000, {}, True),
        (64, 60_000, {}, False),
        (64, 2_000, {"image_size": (48, 48)}, False),
        (64, 2_000, {"mirrored_filters": True}, False),
    ],
)
def test_pretrained_weights_are_for_photographs_and_for_few_images(
    side: int, images: int, given: dict[str, Any], is_chosen: bool
) -> None:
    wanted = suggestions(found(side, cat=images // 2, dog=images // 2), given)

    assert (wanted["architecture"] == "efficientnet-lite0") == is_chosen
    from_options({"data": Path("photos"), **wanted, **given})


@pytest.mark.parametrize("side", [32, 500])
def test_a_backbone_gets_what_pretrained_weights_get(side: int) -> None:
    given, lite = {"backbone": "keras:MobileNet"}, {"architecture": "efficientnet-lite0"}

    wanted = suggestions(found(side), with_meant(given))

    assert wanted == suggestions(found(side), lite)
    config = from_options({"data": Path("photos"), **wanted, **given})
    assert config.image_size == (128, 128)
    assert config.architecture == KERAS


def test_rare_labels_are_made_up_for() -> None:
    assert suggestions(found(cat=100, dog=110), {})["class_weighting"] == 0
    assert suggestions(found(cat=100, dog=300), {})["class_weighting"] > 0


@pytest.mark.parametrize("architecture", ["basic", "small", "fast"])
def test_larger_images_come_in_smaller_batches(architecture: str) -> None:
    sizes = [
        suggestions(found(cat=40_000), {"architecture": architecture, "image_size": size})
        for size in ((128, 128), (224, 224))
    ]

    assert sizes[1]["batch_size"] <= 64 < sizes[0]["batch_size"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"image_size": (224, 224)},
        {"image_size": (40, 32), "epochs": 3},
        {"architecture": "basic"},
        {"architecture": "deep", "batch_size": 64, "zoom": 0.0},
    ],
)
@pytest.mark.parametrize("images", [3, 40_000])
def test_suggestions_fit_together_and_leave_what_is_given(
    given: dict[str, Any], images: int
) -> None:
    wanted = suggestions(found(cat=images, dog=images), given)

    assert not wanted.keys() & given.keys()
    config = from_options({"data": Path("photos"), **wanted, **given})
    assert all(getattr(config, name) == value for name, value in given.items())


def test_what_was_chosen_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_folder(tmp_path / "photos", images=4)

    options, undecided = complete({"data": folder, "epochs": 7})

    assert options["epochs"] == 7
    assert undecided == {"flip"}
    said = capsys.readouterr().err
    assert "12 images of 3 labels" in said
    assert "image size 128x128" in said
    assert "architecture efficientnet-lite0" in said
    assert "starts from what it learned on ImageNet" in said


def test_cifar10_is_left_as_it_is() -> None:
    given: tuple[dict[str, Any], ...] = ({}, {"dataset": "cifar10", "data": Path("nowhere")})
    for options in given:
        assert complete(options) == (options, frozenset())


def test_wrong_values_come_before_the_folder() -> None:
    with pytest.raises(ConfigError, match="--epochs"):
        complete({"data": Path("nowhere"), "epochs": 0})
    with pytest.raises(DataError, match="nowhere"):
        complete({"data": Path("nowhere")})


def test_the_least_that_can_be_trained_on_gets_options_that_work(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)

    config = from_options(complete({"data": folder})[0])

    assert isinstance(config, TrainConfig)
    assert config.batch_size >= 8
    assert np.prod(config.image_size) >= 32 * 32
