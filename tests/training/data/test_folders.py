import dataclasses
import os
import sys
from pathlib import Path

import pytest

from service.inference.imaging import decode_image
from tests.training.conftest import COLOURS, fill_folder, image_file
from training.config import TrainConfig
from training.data.folders import list_images, list_splits
from training.errors import DataError


def test_splits_share_no_file_and_leave_none_out(config: TrainConfig, image_folder: Path) -> None:
    listed = [path for listing in list_splits(config) for path in listing.paths]

    assert sorted(listed) == sorted(image_folder.rglob("*.*"))


def test_the_seed_decides_the_split(config: TrainConfig) -> None:
    def test_files(seed: int) -> tuple[Path, ...]:
        return list_splits(dataclasses.replace(config, seed=seed))[2].paths

    assert test_files(0) == test_files(0)
    assert test_files(0) != test_files(1)


def test_train_and_test_folders_are_kept_apart(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "both" / "train", images=10)
    fill_folder(tmp_path / "both" / "test", images=4)

    train, validation, test = list_splits(dataclasses.replace(config, data=tmp_path / "both"))

    assert (len(train.paths), len(validation.paths), len(test.paths)) == (27, 3, 12)
    assert {path.parent.parent.name for path in test.paths} == {"test"}
    assert {path.parent.parent.name for path in train.paths + validation.paths} == {"train"}


@pytest.mark.parametrize("names", ["train val test", "Train Valid TEST", "train validation test"])
def test_a_folder_may_have_all_three_parts(config: TrainConfig, tmp_path: Path, names: str) -> None:
    for name, images in zip(names.split(), (6, 3, 4), strict=True):
        fill_folder(tmp_path / "all" / name, images=images)

    listings = list_splits(dataclasses.replace(config, data=tmp_path / "all"))

    assert [len(listing.paths) for listing in listings] == [18, 9, 12]
    for listing, name in zip(listings, names.split(), strict=True):
        assert {path.parent.parent.name for path in listing.paths} == {name}


def test_validation_is_the_test_where_there_is_no_other(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_folder(tmp_path / "two" / "train", images=10)
    fill_folder(tmp_path / "two" / "val", images=4)

    listings = list_splits(dataclasses.replace(config, data=tmp_path / "two"))

    assert [len(listing.paths) for listing in listings] == [27, 3, 12]
    assert {path.parent.parent.name for path in listings[2].paths} == {"val"}
    assert "has no test folder" in capsys.readouterr().err


def test_train_without_anything_to_measure_on_is_named(config: TrainConfig, tmp_path: Path) -> None:
    fill_folder(tmp_path / "one" / "train")
    (tmp_path / "one" / "test").mkdir()
    (tmp_path / "one" / "test" / "1.png").write_bytes(image_file("red", 0))

    with pytest.raises(DataError, match=r"label folders in train/ only: give --data .*train "):
        list_splits(dataclasses.replace(config, data=tmp_path / "one"))


def test_a_part_that_is_there_twice_is_named(config: TrainConfig, tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        fill_folder(tmp_path / "both" / name)

    with pytest.raises(DataError, match=r"both val/ and valid/"):
        list_splits(dataclasses.replace(config, data=tmp_path / "both"))


def test_labels_may_be_called_train_and_test(config: TrainConfig, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "vehicles")
    (folder / "red").rename(folder / "train")
    (folder / "blue").rename(folder / "test")

    train, _, _ = list_splits(dataclasses.replace(config, data=folder))

    assert train.labels == ("green", "test", "train")


def test_order_is_by_the_bytes_of_names(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    for name in ("B.PNG", "a.png", "ä.png"):
        (folder / "red" / name).write_bytes(image_file("red", 0))

    names = [path.name for path in list_images(folder).paths[4:]]

    assert names == ["0000.jpg", "0001.png", "B.PNG", "a.png", "ä.png"]


def test_folders_inside_a_labels_folder_are_read_too(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    for name in ("2019/b.png", "2019/May/a.png", ".thumbs/c.png", "0001.png.d/d.png", "z.png"):
        path = folder / "blue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_file("blue", 0))
    (folder / "blue" / "again").symlink_to(folder / "blue", target_is_directory=True)

    listing = list_images(folder)

    found = [path.relative_to(folder / "blue").as_posix() for path in listing.paths[:-4]]
    first = ["0000.jpg", "0001.png", "0001.png.d/d.png"]
    assert found == [*first, "2019/May/a.png", "2019/b.png", "z.png"]
    assert listing.targets.tolist() == [0] * 6 + [1] * 2 + [2] * 2


def test_labels_are_composed_characters(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / "ra\u0308t")

    assert "r\u00e4t" in list_images(folder).labels


def test_a_label_of_two_folders_is_named(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / "ra\u0308t")
    (folder / "blue").rename(folder / "r\u00e4t")

    with pytest.raises(DataError, match="2 folders that are called 'r\u00e4t'"):
        list_images(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_not_in_utf8_is_named(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)
    (folder / "red").rename(folder / os.fsdecode(b"caf\xe9"))

    with pytest.raises(DataError, match=r"'caf\\udce9' is not in UTF-8"):
        list_images(folder)


def test_hidden_files_and_other_suffixes_are_no_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / ".git").mkdir()
    (folder / "red" / ".DS_Store").write_bytes(b"x")
    (folder / "red" / "notes.txt").write_bytes(b"x")
    (folder / "red" / "phone.heic").write_bytes(b"x")

    listing = list_images(folder)

    assert len(listing.paths) == 9
    assert "1 .heic, 1 .txt" in capsys.readouterr().err


def test_colours_differ_enough_to_be_learned() -> None:
    means = [
        decode_image(image_file(label, 0), (8, 8)).pixels.mean(axis=(0, 1)) for label in COLOURS
    ]

    assert [int(mean.argmax()) for mean in means] == [2, 1, 0]
