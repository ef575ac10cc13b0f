"""Images of the pages: sheets, heat, and photographs of any mode and ratio."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.images import random_pixels
from tests.tiny_model import make_card
from training.report import images


def test_sheets_show_each_filter_in_its_place() -> None:
    weights = np.zeros((9, 3, 2, 2), np.float32)
    weights[8, 0, 0, 1], weights[8, 2, 1, 0] = 4, -2

    sheet = images.sheet_of_filters(weights)

    tile, gap = images.TILE, 18
    assert sheet.shape == (2 * tile + gap, 8 * tile + 7 * gap, 4)
    ninth = sheet[tile + gap :, :tile]
    assert ninth[tile // 4, 3 * tile // 4].tolist() == [255, 128, 128, 255]
    assert ninth[3 * tile // 4, tile // 4].tolist() == [128, 128, 64, 255]
    assert not sheet[tile + gap :, tile:, 3].any()  # nothing beside it


def test_large_maps_are_reduced_to_a_tile() -> None:
    sheet = images.sheet_of_maps(np.random.default_rng(0).normal(size=(2, 222, 111)))

    assert sheet.shape == (64, 2 * 32 + 6, 4)


def test_patches_stand_in_two_columns() -> None:
    patches = [np.full((4, 4, 3), 40 * i, np.uint8) for i in range(3)]

    sheet = images.sheet_of_patches(patches)

    assert sheet.shape == (2 * 64 + 4, 2 * 64 + 4, 4)
    assert sheet[-1, 0].tolist() == [80, 80, 80, 255]
    assert sheet[-1, -1, 3] == 0  # there is no fourth


def test_only_the_pixels_of_the_mask_are_kept() -> None:
    shown = random_pixels(8, 16, 3)
    photo = images.Photograph(shown[::4, ::4], shown)
    mask = np.zeros((2, 4), bool)
    mask[1, 2] = True

    found = images.kept(photo, mask)

    inside = (slice(4, 8), slice(8, 12))
    np.testing.assert_array_equal(found[inside], shown[inside])
    found[inside] = found[0, 0]
    assert (found == np.rint(shown.reshape(-1, 3).mean(axis=0))).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "CMYK", "I;16"])
def test_photographs_of_any_mode_are_shown_in_their_ratio(mode: str) -> None:
    image = Image.fromarray(random_pixels(30, 60, 3))
    image = Image.new("I;16", (60, 30), 999) if mode == "I;16" else image.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode in ("CMYK", "I;16") else "PNG")

    photo = images.photograph(file.getvalue(), make_card())

    assert photo.pixels.shape == (8, 8, 3)
    assert photo.shown.shape == (30, 60, 3)


def test_a_turned_photograph_is_shown_upright() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = 255  # bright left, which a turn of 90 degrees clockwise brings to the top
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, quality=95)

    photo = images.photograph(file.getvalue(), make_card())

    assert photo.shown.shape == (80, 40, 3)
    for top, bottom in ((photo.shown[:30], photo.shown[50:]), (photo.pixels[:3], photo.pixels[5:])):
        assert top.mean() > 200
        assert bottom.mean() < 50


@pytest.mark.parametrize(
    ("source", "resize", "shape"),
    [
        ((1000, 500), "stretch", (320, 160, 3)),
        ((1000, 500), "crop", (320, 320, 3)),
        ((1000, 500), "crop-0.875", (320, 320, 3)),
        ((1, 2000), "stretch", (320, 320, 3)),  # no ratio that could be seen
        ((4, 2), "stretch", (8, 4, 3)),
    ],
)
def test_how_large_a_photograph_is_shown(
    source: tuple[int, int], resize: str, shape: tuple[int, int, int]
) -> None:
    file = io.BytesIO()
    Image.fromarray(random_pixels(*source, 3)).save(file, "PNG")

    photo = images.photograph(file.getvalue(), make_card(resize=resize))

    assert photo.shown.shape == shape
