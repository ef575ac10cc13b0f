"""Important pixels, activations and pictures, on networks whose answer is known."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from tests.images import random_pixels
from tests.tiny_model import make_card
from tests.training.report.nets import colour_filters, one_pixel, write
from training.report import activations, importance, pictures
from training.report.network import Network


def probability(red: float) -> float:
    return 1 / (1 + math.exp(4 - 0.05 * red))


def test_occlusion_finds_the_only_pixel_that_matters(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path / "net.onnx", one_pixel(2, 5), ("no", "yes")))
    image = np.full((8, 8, 3), 40, np.uint8)
    image[2, 5, 0] = 200
    red = int(importance.mean_colour(image)[0])

    found = importance.occlusion(classifier, image, label=1)

    # Squares of 2x2 at all 7x7 places: four of them cover the pixel, and bring it to the mean.
    fall = probability(200) - probability(red)
    expected = np.zeros((8, 8))
    times = np.zeros((8, 8))
    for top in range(7):
        for left in range(7):
            hit = top <= 2 < top + 2 and left <= 5 < left + 2
            expected[top : top + 2, left : left + 2] += fall if hit else 0
            times[top : top + 2, left : left + 2] += 1
    np.testing.assert_allclose(found, expected / times, atol=1e-6)
    assert int(found.argmax()) == 2 * 8 + 5
    np.testing.assert_allclose(importance.occlusion(classifier, image, 0), -found, atol=1e-6)


@pytest.mark.parametrize("size", [(5, 40), (1, 1), (120, 97)])
def test_squares_reach_every_pixel(size: tuple[int, int]) -> None:
    side = importance.covering_square(size)
    for length in size:
        corners = importance._corners(length, side)
        covered = {corner + i for corner in corners for i in range(side)}
        assert covered == set(range(length))


def test_integrated_gradients_add_up_to_the_difference_of_scores() -> None:
    network = Network(one_pixel(2, 5))
    image = random_pixels(8, 8, 3)
    flat = np.broadcast_to(importance.mean_colour(image), image.shape)

    found = importance.integrated_gradients(network, image, label=1)

    whole, nothing = (
        importance.score(network, x[None].astype(np.float32), 1)[0] for x in (image, flat)
    )
    assert found.sum() == pytest.approx(whole - nothing, abs=1e-4)
    assert found[2, 5] == pytest.approx(0.05 * (float(image[2, 5, 0]) - flat[2, 5, 0]), abs=1e-4)
    assert np.count_nonzero(np.abs(found) > 1e-6) == 1


def test_a_filter_that_sees_red_is_excited_by_red() -> None:
    network = Network(colour_filters())
    layer = network.layers[0]
    photographs = random_pixels(5, 8, 8, 3)
    usual = activations.mean_activations(network, photographs, layer)

    red, blue = activations.excite(network, layer, [0, 2], usual, np.full(3, 120.0))

    for made, colour in ((red, 0), (blue, 2)):
        assert made.image[..., colour].mean() > 250
        assert made.reached == pytest.approx(made.image[..., colour].mean() / 255 - 0.1, abs=0.02)
        assert made.usual == pytest.approx(usual[:, colour].mean())
        assert made.reached > usual[:, colour].max()
    again = activations.excite(network, layer, [0, 2], usual, np.full(3, 120.0))
    assert (again[0].image == red.image).all()


def test_feature_maps_are_means_of_the_colour_around() -> None:
    image = random_pixels(8, 8, 3)
    network = Network(colour_filters())

    maps = activations.feature_maps(network, image, network.layers[0])

    assert maps.shape == (3, 6, 6)
    assert maps[1, 2, 3] == pytest.approx(image[2:5, 3:6, 1].mean() / 255 - 0.1, abs=1e-5)


def test_the_liveliest_filters_differ_most_among_photographs() -> None:
    usual = np.array([[1.0, 5, 0, 2], [1.0, 5, 4, 3]])

    assert activations.liveliest(usual, 2) == [2, 3]
    assert activations.liveliest(usual[:1], 2) == [1, 3]


def test_blurring_keeps_the_mean() -> None:
    pixels = random_pixels(2, 5, 7, 3).astype(np.float32)

    found = activations.blur(pixels, 0.25)

    np.testing.assert_allclose(found.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), rtol=1e-5)
    assert found.std() < pixels.std()


def test_sheets_show_each_filter_in_its_place() -> None:
    weights = np.zeros((9, 3, 2, 2), np.float32)
    weights[8, 0, 0, 1], weights[8, 2, 1, 0] = 4, -2

    sheet = pictures.sheet_of_filters(weights)

    tile, gap = pictures.TILE, 18
    assert sheet.shape == (2 * tile + gap, 8 * tile + 7 * gap, 4)
    ninth = sheet[tile + gap :, :tile]
    assert ninth[tile // 4, 3 * tile // 4].tolist() == [255, 128, 128, 255]
    assert ninth[3 * tile // 4, tile // 4].tolist() == [128, 128, 64, 255]
    assert not sheet[tile + gap :, tile:, 3].any()  # nothing beside it


def test_large_maps_are_reduced_to_a_tile() -> None:
    sheet = pictures.sheet_of_maps(np.random.default_rng(0).normal(size=(2, 222, 111)))

    assert sheet.shape == (64, 2 * 32 + 6, 4)


def test_heat_is_orange_for_and_blue_against() -> None:
    grey = np.full((2, 2, 3), 128, np.uint8)
    photo = pictures.Photograph(grey, grey)

    shot = pictures.heat(photo, np.array([[1.0, -1.0], [0.0, 0.0]]), largest=1.0)

    (red, _, blue), (red2, _, blue2) = shot[0].astype(int)
    assert red > blue + 100
    assert blue2 > red2 + 100
    assert len(set(shot[1, 0].tolist())) == 1  # no colour


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "CMYK", "I;16"])
def test_photographs_of_any_mode_are_shown_in_their_ratio(mode: str) -> None:
    image = Image.fromarray(random_pixels(30, 60, 3))
    image = Image.new("I;16", (60, 30), 999) if mode == "I;16" else image.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode in ("CMYK", "I;16") else "PNG")

    photo = pictures.photograph(file.getvalue(), make_card())

    assert photo.pixels.shape == (8, 8, 3)
    assert photo.shown.shape == (30, 60, 3)


def test_a_turned_photograph_is_shown_upright() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = 255  # bright left, which a turn of 90 degrees clockwise brings to the top
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, quality=95)

    photo = pictures.photograph(file.getvalue(), make_card())

    assert photo.shown.shape == (80, 40, 3)
    for top, bottom in ((photo.shown[:30], photo.shown[50:]), (photo.pixels[:3], photo.pixels[5:])):
        assert top.mean() > 200
        assert bottom.mean() < 50


@pytest.mark.parametrize(
    ("source", "resize", "shape"),
    [
        ((1000, 500), "stretch", (320, 160, 3)),
        ((1000, 500), "crop", (320, 320, 3)),
        ((1, 2000), "stretch", (320, 320, 3)),  # no ratio that could be seen
        ((4, 2), "stretch", (8, 4, 3)),
    ],
)
def test_how_large_a_photograph_is_shown(
    source: tuple[int, int], resize: str, shape: tuple[int, int, int]
) -> None:
    file = io.BytesIO()
    Image.fromarray(random_pixels(*source, 3)).save(file, "PNG")

    photo = pictures.photograph(file.getvalue(), make_card(resize=resize))  # type: ignore[arg-type]

    assert photo.shown.shape == shape
