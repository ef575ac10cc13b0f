import dataclasses
import os
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from service.inference.imaging import decode_image
from tests.training.conftest import COLOURS, fill_folder, in_memory, picture
from training import datasets
from training.config import TrainConfig
from training.errors import DataError


def test_a_plain_folder_is_split_three_ways(config: TrainConfig) -> None:
    dataset = datasets.load(config)

    assert dataset.labels == ("blue", "green", "red")
    assert dataset.counts() == {"train": 27, "validation": 3, "test": 6}
    for split, each in ((dataset.train, 9), (dataset.validation, 1), (dataset.test, 2)):
        assert np.bincount(split.targets).tolist() == [each] * 3
        assert split.images.shape == (3 * each, 20, 16, 3)
        assert np.asarray(split.images).dtype == np.uint8
    assert dataset.name == "photos"


def test_splits_share_no_file_and_leave_none_out(config: TrainConfig, image_folder: Path) -> None:
    listed = [path for listing in datasets.list_splits(config) for path in listing.paths]

    assert sorted(listed) == sorted(image_folder.rglob("*.*"))


def test_the_seed_decides_the_split(config: TrainConfig) -> None:
    def test_files(seed: int) -> tuple[Path, ...]:
        return datasets.list_splits(dataclasses.replace(config, seed=seed))[2].paths

    assert test_files(0) == test_files(0)
    assert test_files(0) != test_files(1)


def test_train_and_test_folders_are_kept_apart(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "both" / "train", images=10)
    fill_folder(tmp_path / "both" / "test", images=4)

    train, validation, test = datasets.list_splits(
        dataclasses.replace(config, data=tmp_path / "both")
    )

    assert (len(train.paths), len(validation.paths), len(test.paths)) == (27, 3, 12)
    assert {path.parent.parent.name for path in test.paths} == {"test"}
    assert {path.parent.parent.name for path in train.paths + validation.paths} == {"train"}


@pytest.mark.parametrize("names", ["train val test", "Train Valid TEST", "train validation test"])
def test_a_folder_may_have_all_three_parts(config: TrainConfig, tmp_path: Path, names: str) -> None:
    for name, images in zip(names.split(), (6, 3, 4), strict=True):
        fill_folder(tmp_path / "all" / name, images=images)

    listings = datasets.list_splits(dataclasses.replace(config, data=tmp_path / "all"))

    assert [len(listing.paths) for listing in listings] == [18, 9, 12]
    for listing, name in zip(listings, names.split(), strict=True):
        assert {path.parent.parent.name for path in listing.paths} == {name}


def test_validation_is_the_test_where_there_is_no_other(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_folder(tmp_path / "two" / "train", images=10)
    fill_folder(tmp_path / "two" / "val", images=4)

    listings = datasets.list_splits(dataclasses.replace(config, data=tmp_path / "two"))

    assert [len(listing.paths) for listing in listings] == [27, 3, 12]
    assert {path.parent.parent.name for path in listings[2].paths} == {"val"}
    assert "has no test folder" in capsys.readouterr().err


def test_train_without_anything_to_measure_on_is_named(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "one" / "train")
    (tmp_path / "one" / "test").mkdir()
    (tmp_path / "one" / "test" / "1.png").write_bytes(picture("red", 0))

    with pytest.raises(DataError, match=r"label folders in train/ only: give --data .*train "):
        datasets.list_splits(dataclasses.replace(config, data=tmp_path / "one"))


def test_a_part_that_is_there_twice_is_named(config: TrainConfig, tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        fill_folder(tmp_path / "both" / name)

    with pytest.raises(DataError, match=r"both val/ and valid/"):
        datasets.list_splits(dataclasses.replace(config, data=tmp_path / "both"))


def test_labels_may_be_called_train_and_test(config: TrainConfig, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "vehicles")
    (folder / "red").rename(folder / "train")
    (folder / "blue").rename(folder / "test")

    train, _, _ = datasets.list_splits(dataclasses.replace(config, data=folder))

    assert train.labels == ("green", "test", "train")


def test_pixels_are_those_the_service_decodes(config: TrainConfig) -> None:
    listing = datasets.list_splits(config)[2]

    found = datasets.decoded(listing.paths, (20, 16), "crop", "test")

    expected = [decode_image(path.read_bytes(), (20, 16), "crop").pixels for path in listing.paths]
    np.testing.assert_array_equal([*found], expected)


def test_order_is_by_the_bytes_of_names(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    for name in ("B.PNG", "a.png", "ä.png"):
        (folder / "red" / name).write_bytes(picture("red", 0))

    names = [path.name for path in datasets.list_images(folder).paths[4:]]

    assert names == ["0000.jpg", "0001.png", "B.PNG", "a.png", "ä.png"]


def test_folders_inside_a_labels_folder_are_read_too(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    for name in ("2019/b.png", "2019/May/a.png", ".thumbs/c.png", "0001.png.d/d.png", "z.png"):
        path = folder / "blue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture("blue", 0))
    (folder / "blue" / "again").symlink_to(folder / "blue", target_is_directory=True)

    listing = datasets.list_images(folder)

    found = [path.relative_to(folder / "blue").as_posix() for path in listing.paths[:-4]]
    first = ["0000.jpg", "0001.png", "0001.png.d/d.png"]
    assert found == [*first, "2019/May/a.png", "2019/b.png", "z.png"]
    assert listing.targets.tolist() == [0] * 6 + [1] * 2 + [2] * 2


def test_labels_are_composed_characters(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / "ra\u0308t")

    assert "r\u00e4t" in datasets.list_images(folder).labels


def test_a_label_of_two_folders_is_named(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / "ra\u0308t")
    (folder / "blue").rename(folder / "r\u00e4t")

    with pytest.raises(DataError, match="2 folders that are called 'r\u00e4t'"):
        datasets.list_images(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_not_in_utf8_is_named(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / os.fsdecode(b"caf\xe9"))

    with pytest.raises(DataError, match=r"'caf\\udce9' is not in UTF-8"):
        datasets.list_images(folder)


@pytest.mark.parametrize("name", ["large.jpg", "scan.tiff", "phone.avif", "map.ppm"])
def test_what_the_project_can_read_is_trained_on(tmp_path: Path, name: str) -> None:
    """Of a person's own files more than of what strangers send, and larger ones."""
    side = (12_000, 9_000) if name == "large.jpg" else (30, 20)
    Image.new("RGB", side, (40, 60, 200)).save(tmp_path / name)
    folder = fill_folder(tmp_path / "photos", images=2)
    (tmp_path / name).rename(folder / "blue" / name)

    paths = [path for path in datasets.list_images(folder).paths if path.name == name]

    (found,) = datasets.decoded(paths, (20, 16), "stretch", "x")
    assert not isinstance(found, str), found
    assert np.abs(found.astype(int) - (40, 60, 200)).max() < 4


def test_hidden_files_and_other_suffixes_are_no_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / ".git").mkdir()
    (folder / "red" / ".DS_Store").write_bytes(b"x")
    (folder / "red" / "notes.txt").write_bytes(b"x")
    (folder / "red" / "phone.heic").write_bytes(b"x")

    listing = datasets.list_images(folder)

    assert len(listing.paths) == 9
    assert "1 .heic, 1 .txt" in capsys.readouterr().err


def test_unreadable_images_are_counted_named_and_left_out(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = in_memory(datasets.load(config))
    train = datasets.list_splits(config)[0]
    cut, empty = train.paths[0], train.paths[-1]
    cut.write_bytes(cut.read_bytes()[:200])
    empty.write_bytes(b"")

    dataset = datasets.load(config)

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
    broken = datasets.list_splits(config)[0].paths[:-12]
    for path in broken:
        path.write_bytes(b"not an image")

    with pytest.raises(DataError, match="no readable image"):
        datasets.load(config)

    said = capsys.readouterr().err
    assert "15 of 27" in said
    assert "and 5 more" in said


def test_strict_makes_an_unreadable_image_fatal(config: TrainConfig) -> None:
    path = datasets.list_splits(config)[0].paths[3]
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DataError, match=path.name):
        datasets.load(dataclasses.replace(config, strict=True))


def test_a_missing_folder_is_named(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        datasets.load(dataclasses.replace(config, data=tmp_path / "nowhere"))


def test_a_file_in_place_of_the_folder_is_named(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")

    with pytest.raises(DataError, match=r"photos\.zip is not a folder"):
        datasets.load(dataclasses.replace(config, data=tmp_path / "photos.zip"))


def test_an_empty_label_folder_is_named(config: TrainConfig, image_folder: Path) -> None:
    (image_folder / "yellow").mkdir()

    with pytest.raises(DataError, match="yellow has no images"):
        datasets.load(config)


def test_one_label_only_is_named(config: TrainConfig, image_folder: Path) -> None:
    shutil.rmtree(image_folder / "red")
    shutil.rmtree(image_folder / "blue")

    with pytest.raises(DataError, match=r"one label folder only \(green\)"):
        datasets.load(config)


def test_images_without_label_folders_are_named(config: TrainConfig, image_folder: Path) -> None:
    with pytest.raises(DataError, match="red has no label folders"):
        datasets.load(dataclasses.replace(config, data=image_folder / "red"))


@pytest.mark.parametrize("images", [1, 2])
def test_a_label_with_too_few_images_is_named(
    config: TrainConfig, image_folder: Path, images: int
) -> None:
    for path in sorted((image_folder / "red").iterdir())[images:]:
        path.unlink()

    with pytest.raises(DataError, match="label 'red'"):
        datasets.load(config)


def test_what_is_held_back_and_unreadable_is_made_up_for(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """By another image of its label, readable and in no split yet."""
    train, validation, test = datasets.list_splits(config)
    broken = [path for path in test.paths if path.parent.name == "green"]
    broken += [path for path in train.paths if path.parent.name == "green"][:1]
    for path in broken:
        path.write_bytes(b"no image")
    greens = [path for path in train.paths if path.parent.name == "green"]
    copy(greens[1], validation.paths[1])  # which validation shares with the test split now

    dataset = datasets.load(config)

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
        datasets.load(dataclasses.replace(config, data=tmp_path / "both"))


def test_three_images_of_a_label_reach_all_splits(config: TrainConfig, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "few", images=3)

    dataset = datasets.load(dataclasses.replace(config, data=folder))

    assert dataset.counts() == {"train": 3, "validation": 3, "test": 3}


def test_train_and_test_must_share_labels(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "both" / "train")
    fill_folder(tmp_path / "both" / "test", labels=("red", "blue"))

    with pytest.raises(DataError, match="do not share labels: green"):
        datasets.load(dataclasses.replace(config, data=tmp_path / "both"))


def test_cifar10_is_known_by_its_labels(config: TrainConfig) -> None:
    with pytest.raises(DataError, match="does not hold CIFAR-10: its labels are blue"):
        datasets.load(dataclasses.replace(config, dataset="cifar10"))


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

    dataset = datasets.load(TrainConfig(validation_fraction=0.2))

    assert dataset.labels == datasets.CIFAR10_LABELS
    assert dataset.counts() == {"train": 80, "validation": 20, "test": 20}
    assert np.bincount(dataset.validation.targets).tolist() == [2] * 10
    np.testing.assert_array_equal(np.asarray(dataset.test.images), images[100:])
    assert dataset.test.targets.tolist() == [*range(10)] * 2


def test_downloaded_cifar10_has_one_size() -> None:
    with pytest.raises(DataError, match="--image-size"):
        datasets.load(TrainConfig(image_size=(64, 64)))


def test_the_digest_follows_the_training_pixels(config: TrainConfig) -> None:
    dataset = datasets.load(config)
    same = in_memory(dataset)
    assert dataset.digest() == same.digest()

    np.asarray(same.train.images)[0, 0, 0, 0] ^= 1

    assert dataset.digest() != same.digest()


def test_colours_differ_enough_to_be_learned() -> None:
    means = [decode_image(picture(label, 0), (8, 8)).pixels.mean(axis=(0, 1)) for label in COLOURS]

    assert [int(mean.argmax()) for mean in means] == [2, 1, 0]


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_a_picture_of_two_splits_is_kept_by_test_alone(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train, validation, test = datasets.list_splits(config)
    before = in_memory(datasets.load(config))
    copy(test.paths[0], train.paths[0])
    copy(test.paths[-1], validation.paths[-1])  # the only one of its label there
    copy(validation.paths[0], train.paths[-1])

    dataset = datasets.load(config)

    said = capsys.readouterr().err
    assert f"{train.paths[0]} = {test.paths[0]}" in said
    assert f"{train.paths[-1]} = {validation.paths[0]}" in said
    assert f"{validation.paths[-1]} = {test.paths[-1]}" in said
    assert "the same picture in two splits: 3" in said
    assert "the same picture under two labels: 1" in said  # a blue one among the red
    # The first red image that was to be trained on is the red one of the validation split now.
    expected = np.delete(np.asarray(before.train.images), [0, 18, 26], axis=0)
    np.testing.assert_array_equal(np.asarray(dataset.train.images), expected)
    np.testing.assert_array_equal(dataset.validation.images[2:3], before.train.images[18:19])
    assert dataset.validation.targets.tolist() == [0, 1, 2]
    assert len(dataset.test) == len(before.test)


def test_the_same_pixels_are_the_same_picture_whatever_the_file(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train = datasets.list_splits(config)[0]
    png = next(path for path in train.paths if path.suffix == ".png")
    other = next(path for path in train.paths if path.suffix == ".jpg" and path != png)
    with Image.open(png) as image:
        image.save(other, "BMP")

    datasets.load(config)

    assert "the same picture again in its split: 1" in capsys.readouterr().err


def test_without_twins_nothing_is_said_of_them(
    config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets.load(config)

    assert "picture" not in capsys.readouterr().err


def test_pixels_that_cannot_be_kept_are_said(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DataError, match=r"cannot be kept in .*file"):
        datasets.load(dataclasses.replace(config, run=tmp_path / "file"))


def test_a_failure_leaves_no_half_written_pixels(config: TrainConfig) -> None:
    path = datasets.list_splits(config)[0].paths[3]
    path.write_bytes(b"")

    with pytest.raises(DataError):
        datasets.load(dataclasses.replace(config, strict=True))

    assert [*config.run_folder.iterdir()] == []
