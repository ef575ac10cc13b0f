"""Colours of a map of importance."""

import io

import numpy as np
from PIL import Image

from service.inference.heat import heat, overlay
from tests.images import random_pixels


def test_heat_is_orange_for_and_blue_against() -> None:
    grey = np.full((2, 2, 3), 128, np.uint8)

    shot = heat(grey, np.array([[1.0, -1.0], [0.0, 0.0]]))

    (red, _, blue), (red2, _, blue2) = shot[0].astype(int)
    assert red > blue + 100
    assert blue2 > red2 + 100
    assert len(set(shot[1, 0].tolist())) == 1  # no colour


def test_a_picture_of_some_hundred_pixels() -> None:
    for height, width, shown in ((32, 24, (240, 320)), (7, 3, (138, 322)), (400, 500, (500, 400))):
        pixels = random_pixels(height, width, 3)
        picture = Image.open(io.BytesIO(overlay(pixels, np.ones((height, width), np.float32))))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", shown)


def test_a_flat_map_has_no_colour() -> None:
    shot = heat(random_pixels(8, 8, 3), np.zeros((8, 8), np.float32))
    assert (shot == shot[..., :1]).all()
