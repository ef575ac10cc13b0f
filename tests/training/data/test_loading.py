import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from service.inference.imaging import decode_image
from tests.training.conftest import fill_folder, in_memory
from training.config import TrainConfig
from training.data import cifar10
from training.data.folders import list_splits
from training.data.loading import load
from training.errors import DataError


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_a_plain_folder_is_split_three_ways(config: TrainConfig) -> None:
    dataset = load(config)

    assert dataset.labels == ("blue", "green", "red")
    assert dataset.counts() == {"train": 27, "validation": 3, "test": 6}
    for split, each in ((dataset.train, 9), (dataset.validation, 1), (dataset.test, 2)):
        assert np.bincount(split.targets).tolist() == [each] * 3
        assert split.images.shape == (3 * each, 20, 16, 3)
        assert np.asarray(split.images).dtype == np.uint8
    assert dataset.name == "photos"


def test_unreadable_images_are_counted_named_and_left_out(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = in_memory(load(config))
    train = list_splits(config)[0]
    cut, empty = train.paths[0], train.paths[-1]
    cut.write_bytes(cut.read_bytes()[:200])
    empty.write_bytes(b"")

    dataset = load(config)

    said = capsys.readouterr().err
    assert "2 of 27 images of the train split are unreadable" in said
    assert str(cut) in said
    assert str(empty) in said
    # The others are where they were: a broken file does not shuffle the splits.
    np.testing.assert_array_equal(np.asarray(dataset.train.images), whole.train.images[1:-1])
    np.testing.assert_array_equal(np.asarray(dataset.test.images), whole.test.images)


def test_many_unreadable_images_are_named_in_part(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = list_splits(config)[0].paths[:-12]
    for path in broken:
        path.write_bytes(b"not an image")

    with pytest.raises(DataError, match="no readable image"):
        load(config)

    said = capsys.readouterr().err
    assert "15 of 27" in said
    assert "and 5 more" in said


def test_strict_makes_an_unreadable_image_fatal(config: TrainConfig) -> None:
    path = list_splits(config)[0].paths[3]
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DataError, match=path.name):
        load(dataclasses.replace(config, strict=True))


def test_a_missing_folder_is_named(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load(dataclasses.replace(config, data=tmp_path / "nowhere"))


def test_a_file_in_place_of_the_folder_is_named(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")

    with pytest.raises(DataError, match=r"photos\.zip is not a folder"):
        load(dataclasses.replace(config, data=tmp_path / "photos.zip"))


def test_an_empty_label_folder_is_named(config: TrainConfig, image_folder: Path) -> None:
    (image_folder / "yellow").mkdir()

    with pytest.raises(DataError, match="yellow has no images"):
        load(config)


def test_one_label_only_is_named(config: TrainConfig, image_folder: Path) -> None:
    shutil.rmtree(image_folder / "red")
    shutil.rmtree(image_folder / "blue")

    with pytest.raises(DataError, match=r"one label folder only \(green\)"):
        load(config)


def test_images_without_label_folders_are_named(config: TrainConfig, image_folder: Path) -> None:
    with pytest.raises(DataError, match="red has no label folders"):
        load(dataclasses.replace(config, data=image_folder / "red"))


@pytest.mark.parametrize("images", [1, 2])
def test_a_label_with_too_few_images_is_named(
    config: TrainConfig, image_folder: Path, images: int
) -> None:
    for path in sorted((image_folder / "red").iterdir())[images:]:
        path.unlink()

    with pytest.raises(DataError, match="label 'red'"):
        load(config)


def test_what_is_held_back_and_unreadable_is_made_up_for(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """By another image of its label, readable and in no split yet."""
    train, validation, test = list_splits(config)
    broken = [path for path in test.paths if path.parent.name == "green"]
    broken += [path for path in train.paths if path.parent.name == "green"][:1]
    for path in broken:
        path.write_bytes(b"no image")
    greens = [path for path in train.paths if path.parent.name == "green"]
    copy(greens[1], validation.paths[1])  # which validation shares with the test split now

    dataset = load(config)

    said = capsys.readouterr().err
    assert all(said.count(str(path)) == 1 for path in broken)
    assert f"{validation.paths[1]} = {greens[1]}" in said
    assert dataset.counts() == {"train": 27 - 3, "validation": 3, "test": 6 - 2 + 1}
    pixels = [decode_image(path.read_bytes(), config.image_size).pixels for path in greens[1:3]]
    np.testing.assert_array_equal(np.asarray(dataset.test.images)[-1], pixels[0])
    np.testing.assert_array_equal(np.asarray(dataset.validation.images)[-1], pixels[1])


def test_a_test_folder_is_left_as_it_is(config: TrainConfig, tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill_folder(tmp_path / "both" / part, images=4)
    for path in (tmp_path / "both" / "test" / "red").iterdir():
        path.write_bytes(b"no image")

    with pytest.raises(DataError, match=r"'red' in .* has no readable image in the test split"):
        load(dataclasses.replace(config, data=tmp_path / "both"))


def test_three_images_of_a_label_reach_all_splits(config: TrainConfig, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "few", images=3)

    dataset = load(dataclasses.replace(config, data=folder))

    assert dataset.counts() == {"train": 3, "validation": 3, "test": 3}


def test_train_and_test_must_share_labels(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "both" / "train")
    fill_folder(tmp_path / "both" / "test", labels=("red", "blue"))

    with pytest.raises(DataError, match="do not share labels: green"):
        load(dataclasses.replace(config, data=tmp_path / "both"))


def test_cifar10_is_known_by_its_labels(config: TrainConfig) -> None:
    with pytest.raises(DataError, match="does not hold CIFAR-10: its labels are blue"):
        load(dataclasses.replace(config, dataset="cifar10"))


def test_downloaded_cifar10_is_split_like_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # The one stand-in in this folder: a test does not download 170 MB.
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 32, 32, 3), np.uint8)
    targets = np.arange(120, dtype=np.uint8).reshape(-1, 1) % 10
    monkeypatch.setattr(
        keras.datasets.cifar10,
        "load_data",
        lambda: ((images[:100], targets[:100]), (images[100:], targets[100:])),
    )

    dataset = load(TrainConfig(validation_fraction=0.2))

    assert dataset.labels == cifar10.LABELS
    assert dataset.counts() == {"train": 80, "validation": 20, "test": 20}
    assert np.bincount(dataset.validation.targets).tolist() == [2] * 10
    np.testing.assert_array_equal(np.asarray(dataset.test.images), images[100:])
    assert dataset.test.targets.tolist() == [*range(10)] * 2


def test_downloaded_cifar10_has_one_size() -> None:
    with pytest.raises(DataError, match="--image-size"):
        load(TrainConfig(image_size=(64, 64)))


def test_the_digest_follows_the_training_pixels(config: TrainConfig) -> None:
    dataset = load(config)
    same = in_memory(dataset)
    assert dataset.digest() == same.digest()

    np.asarray(same.train.images)[0, 0, 0, 0] ^= 1

    assert dataset.digest() != same.digest()


def test_an_image_of_two_splits_is_kept_by_test_alone(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train, validation, test = list_splits(config)
    before = in_memory(load(config))
    copy(test.paths[0], train.paths[0])
    copy(test.paths[-1], validation.paths[-1])  # the only one of its label there
    copy(validation.paths[0], train.paths[-1])

    dataset = load(config)

    said = capsys.readouterr().err
    assert f"{train.paths[0]} = {test.paths[0]}" in said
    assert f"{train.paths[-1]} = {validation.paths[0]}" in said
    assert f"{validation.paths[-1]} = {test.paths[-1]}" in said
    assert "the same image in two splits: 3" in said
    assert "the same image under two labels: 1" in said  # a blue one among the red
    # The first red image that was to be trained on is the red one of the validation split now.
    expected = np.delete(np.asarray(before.train.images), [0, 18, 26], axis=0)
    np.testing.assert_array_equal(np.asarray(dataset.train.images), expected)
    np.testing.assert_array_equal(dataset.validation.images[2:3], before.train.images[18:19])
    assert dataset.validation.targets.tolist() == [0, 1, 2]
    assert len(dataset.test) == len(before.test)


def test_the_same_pixels_are_the_same_image_whatever_the_file(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train = list_splits(config)[0]
    png = next(path for path in train.paths if path.suffix == ".png")
    other = next(path for path in train.paths if path.suffix == ".jpg" and path != png)
    with Image.open(png) as image:
        image.save(other, "BMP")

    load(config)

    assert "the same image again in its split: 1" in capsys.readouterr().err


def test_without_twins_nothing_is_said_of_them(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    load(config)

    assert "picture" not in capsys.readouterr().err


def test_pixels_that_cannot_be_kept_are_said(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DataError, match=r"cannot be kept in .*file"):
        load(dataclasses.replace(config, run=tmp_path / "file"))


def test_a_failure_leaves_no_half_written_pixels(config: TrainConfig) -> None:
    path = list_splits(config)[0].paths[3]
    path.write_bytes(b"")

    with pytest.raises(DataError):
        load(dataclasses.replace(config, strict=True))

    assert [*config.run_folder.iterdir()] == []
