"""Issue 17, 23: folders that are parts of a data set, or one too high, do not become labels."""

import dataclasses
from pathlib import Path

import pytest

from tests.training.conftest import fill_folder, image_file
from training.cli import main
from training.config import TrainConfig
from training.data.folders import list_splits
from training.errors import DataError

PETS = ("blue", "red")


def fill(folder: Path, *places: str) -> Path:
    """Two images in each of these places, none of them twice."""
    for number, place in enumerate(places):
        (folder / place).mkdir(parents=True)
        for i in range(2):
            (folder / place / f"{i}.png").write_bytes(image_file("red", 2 * number + i))
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        list_splits(TrainConfig(dataset="folder", data=folder))
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),  # brain tumours, as they are usually downloaded
        ("Training", "Test"),
        ("train", "dev"),
        ("training", "eval"),
        ("training", "evaluation"),
    ],
)
def test_words_for_parts_are_parts(
    config: TrainConfig, tmp_path: Path, train: str, test: str
) -> None:
    for number, part in enumerate((train, test)):
        fill_folder(tmp_path / "data" / part, images=10 + number, labels=PETS)

    listings = list_splits(dataclasses.replace(config, data=tmp_path / "data"))

    assert [listing.labels for listing in listings] == [PETS] * 3
    assert [len(listing.paths) for listing in listings] == [18, 2, 22]


def test_a_part_without_labels_is_no_label(tmp_path: Path) -> None:
    folder = fill(tmp_path / "data", "Training/cat", "Training/dog", "Testing")

    assert f"label folders in Training/ only: give --data {folder}/Training" in refused(folder)


@pytest.mark.parametrize(
    ("places", "data"),
    [
        (
            [f"seg_{p}/seg_{p}/{label}" for p in ("train", "test") for label in ("sea", "street")]
            + ["seg_pred/seg_pred"],
            "seg_train/seg_train",
        ),
        (
            [
                f"{p}_set/{p}_set/{label}"
                for p in ("training", "test")
                for label in ("cats", "dogs")
            ],
            "training_set/training_set",
        ),
        (["train_images/cat", "train_images/dog", "test_images"], "train_images"),
        (["train", "test"], "train"),
        (["Train", "Validation", "test1"], "Train"),
        (["train_images", "test_images"], "train_images"),
    ],
)
def test_nothing_but_words_for_parts_is_refused(
    tmp_path: Path, places: list[str], data: str
) -> None:
    folder = fill(tmp_path / "data", *places)

    said = refused(folder)

    assert "if they are parts of the data" in said
    assert f"give --data {folder / data}" in said
    assert "if they are labels, rename one (mv " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("places", "deep"),
    [
        (["Dataset/cat", "Dataset/dog", "Examples"], "Dataset"),
        (["Dataset/cat", "Dataset/dog", "Examples/cat", "Examples/dog"], "Dataset, Examples"),
        (["Dataset/Dataset/cat", "Dataset/Dataset/dog", "Examples"], "Dataset"),
    ],
)
def test_one_folder_too_high_is_refused(tmp_path: Path, places: list[str], deep: str) -> None:
    folder = fill(tmp_path / "data", *places)

    said = refused(folder)

    inner = folder / Path(places[0]).parent
    assert said.startswith(f"{deep} in {folder} hold")
    assert f"if these are the labels (cat, dog), give --data {inner};" in said
    assert "if the labels are Dataset, Examples, move an image of each straight into" in said


def test_a_wrapped_part_is_refused_with_what_it_wraps(tmp_path: Path) -> None:
    places = [f"{p}/{p}/{label}" for p in ("train", "test") for label in ("cat", "dog")]
    folder = fill(tmp_path / "data", *places)

    assert f"give --data {folder}/train/train" in refused(folder)


def test_folders_inside_labels_stay_possible(tmp_path: Path) -> None:
    """What the refusal advises works, and where one reading is left nothing is asked."""
    years = fill(tmp_path / "years", "cat", "cat/2019", "cat/2020", "dog", "dog/2019", "dog/2020")
    images = fill(tmp_path / "wordnet", "n01/images", "n02/images")
    images.joinpath("n01", "images", "2.png").write_bytes(image_file("red", 10))
    images.joinpath("n02", "images", "2.png").write_bytes(image_file("red", 11))

    for folder, labels in ((years, ("cat", "dog")), (images, ("n01", "n02"))):
        assert list_splits(TrainConfig(dataset="folder", data=folder))[0].labels == labels


def test_labels_may_be_called_train_and_test_beside_others(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "data", images=3, labels=PETS)
    for label in ("train", "test"):
        (folder / "red").rename(folder / label)
        fill_folder(folder, images=3, labels=("red",))

    listings = list_splits(TrainConfig(dataset="folder", data=folder))

    assert listings[0].labels == ("blue", "red", "test", "train")


def test_it_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path / "data", "train", "test")
    words = ["--data", str(folder), "--output", str(tmp_path / "out" / "m.onnx")]

    assert main(words) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder} has no folders but test, train: ")


def test_what_stands_beside_parts_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [f"{p}/{label}" for p in ("train", "test") for label in ("cat", "dog")]
    folder = fill(tmp_path / "data", *places, "Examples")

    list_splits(TrainConfig(dataset="folder", data=folder))

    assert f"{folder}: passed over beside its parts: Examples/" in capsys.readouterr().err
