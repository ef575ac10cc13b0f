"""Issue 17, 24: folders of storage systems are no labels, and thumbnails no images of their own."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.image_files import LEFTOVERS
from service.inference.imaging import decode_image
from tests.cifar10 import cifar_test_jpegs
from tests.images import encode, photograph
from tests.training.conftest import fill_folder, image_file
from training.config import TrainConfig
from training.data.folders import list_images, list_splits
from training.data.loading import load
from training.data.record import LEFT_OUT
from training.data.twins import Twins

NAMES = (
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@Recycle",
    "Thumbnails",
    "__MACOSX",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
)


@pytest.mark.parametrize("name", NAMES)
def test_leftovers_are_passed_over_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Beside the labels, and inside them; with images or without."""
    folder = fill_folder(tmp_path / "photos", images=3)
    whole = list_images(folder)
    for place in (folder / name, folder / "red" / name):
        place.mkdir()
        (place / "SYNOPHOTO_THUMB_XL.png").write_bytes(image_file("blue", 7))
    fill_folder(folder / "red" / name / "deeper", images=1)

    found = list_images(folder)

    assert found.paths == whole.paths
    assert found.labels == whole.labels
    said = capsys.readouterr().err
    assert f"{folder}: folders passed over, as systems leave them behind: 2 {name}" in said


def test_leftovers_beside_parts_are_no_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill_folder(tmp_path / part, images=3)
    for name in NAMES:
        (tmp_path / name).mkdir()

    listings = list_splits(TrainConfig(dataset="folder", data=tmp_path))

    assert [len(listing.paths) for listing in listings] == [6, 3, 9]


def test_a_name_that_only_begins_so_is_a_label(tmp_path: Path) -> None:
    labels = ("#recycling", "@home", "thumbnail")
    assert not {*labels} & LEFTOVERS
    folder = fill_folder(tmp_path / "photos", images=1, labels=("red",))
    for label in labels:
        (folder / "red").rename(folder / label)
        fill_folder(folder, images=1, labels=("red",))

    assert list_images(folder).labels == ("#recycling", "@home", "red", "thumbnail")


def thumbnail(picture: bytes, side: int, quality: int = 75) -> bytes:
    with Image.open(io.BytesIO(picture)) as image:
        image.thumbnail((side, side))
        return encode(image.convert("RGB"), "JPEG", quality=quality)


def test_a_thumbnail_is_never_learned_where_its_picture_is_measured(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "camera"
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True)
        for i in range(6):
            picture = encode(photograph(10 * number + i, 480, 640), "JPEG")
            (folder / label / f"{i}.jpg").write_bytes(picture)
            (folder / label / f"{i}_160.jpg").write_bytes(thumbnail(picture, 160))
    config = dataclasses.replace(config, data=folder, image_size=(32, 32))
    listed = dict(zip(("train", "validation", "test"), list_splits(config), strict=True))
    split_of = {path: title for title, listing in listed.items() for path in listing.paths}
    assert sum(len(splits) > 1 for splits in by_picture(split_of).values()) > 2

    dataset = load(config)

    kept = {Path(row.file): row.split for row in dataset.record if row.split != LEFT_OUT}
    assert sum(dataset.counts().values()) == len(kept)
    assert [*map(len, by_picture(kept).values())] == [1] * 12
    assert f"the same image in two splits: {len(split_of) - len(kept)};" in capsys.readouterr().err


def by_picture(split_of: dict[Path, str]) -> dict[str, set[str]]:
    """The splits that a picture is in, under either name."""
    found: dict[str, set[str]] = {}
    for path, split in split_of.items():
        found.setdefault(path.parent.name + path.stem.removesuffix("_160"), set()).add(split)
    return found


def known_again(first: bytes, second: bytes, *, labels: tuple[str, str] = ("a", "a")) -> bool:
    twins = Twins()
    is_new = [
        twins.is_new_to(split, Path(split), label, decode_image(data, (64, 64)))
        for split, label, data in zip(("test", "train"), labels, (first, second), strict=True)
    ]
    assert is_new[0]
    return not is_new[1]


@pytest.mark.parametrize("side", [64, 96, 120, 160, 320])
@pytest.mark.parametrize("quality", [60, 75, 95])
def test_thumbnails_of_usual_sizes_are_known_again(side: int, quality: int) -> None:
    for seed in range(5):
        picture = encode(photograph(seed, 480, 640), "JPEG")
        small = thumbnail(picture, side, quality)

        assert known_again(picture, small)
        assert known_again(small, picture)


def test_one_camera_and_one_scene_is_not_one_image() -> None:
    """Frames of the same size may be as alike as a thumbnail; a part of one is no thumbnail."""
    scene = np.asarray(photograph(3, 480, 640)).astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 3, scene.shape).astype(np.int16)
    frame = encode(Image.fromarray((scene + noise).clip(0, 255).astype(np.uint8)), "JPEG")
    picture = encode(Image.fromarray(scene.astype(np.uint8)), "JPEG")
    part = encode(Image.fromarray(scene[40:440, 40:600].astype(np.uint8)), "JPEG")

    assert not known_again(picture, frame)
    assert not known_again(picture, part)
    assert not known_again(picture, thumbnail(picture, 160), labels=("a", "b"))


def test_different_images_are_not_one_image() -> None:
    """Photographs of the same things in two sizes each, none of them in both."""
    twins = Twins()
    odd = 0
    for number, (_, data) in enumerate(cifar_test_jpegs(2000)):
        image = decode_image(data, (32, 32))
        image = dataclasses.replace(image, source_pixels=1024 * (1 + number % 2))
        odd += not twins.is_new_to(("test", "train")[number % 2], Path(str(number)), "x", image)

    assert odd == 0
