"""What the decoder's own downscaling of large JPEGs changes: bounded in grey levels and in labels.

The photographs are made of numbers, so that any clone can run this; where the real ones of CIFAR-10
are at hand (a folder in LABELSERVE_TEST_DATA, or the project's archive) they are used too.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from service.inference.classifier import Classifier
from service.inference.imaging import DRAFT_OVERSAMPLING, decode_image
from tests.cifar10 import cifar_test_jpegs
from tests.images import Pixels, encode, photograph
from tests.tiny_model import make_card, make_graph, write_model

ROOT = Path(__file__).parents[3]
PHOTOGRAPHS = 250
ENLARGED = 1000  # of 500 a label in two hundred is too few to count
SIZE = (32, 32)
MEAN_LEVELS = 2.0
SAME_LABEL = 0.995
PROBABILITY = 0.05
INTEGERS = 0.2  # of one image in a hundred, by a model that rounds to 8 bits

SIZES = ((427, 640), (480, 640), (600, 450), (500, 750), (399, 517))
LARGE = (3000, 4000)


@pytest.fixture(scope="module")
def default_model() -> Classifier | None:
    path = ROOT / "models" / "default.onnx"
    return Classifier.load(path) if path.exists() else None


@pytest.fixture(scope="module")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Tells images by their mean colour, from as many pixels as the default model takes."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    graph = make_graph(size=SIZE)
    return Classifier.load(write_model(path, make_card(size=SIZE), graph))


def large_jpegs() -> Iterator[bytes]:
    for number in range(PHOTOGRAPHS):
        size = LARGE if number % 125 == 7 else SIZES[number % len(SIZES)]
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = (1, 1, 6, 1, 8, 3)[number % 6]
        yield encode(
            photograph(number, *size),
            "JPEG",
            quality=(60, 75, 85, 95)[number % 4],
            subsampling=(2, 0, 1)[number % 3],
            progressive=number % 7 == 0,
            exif=exif,
        )


def enlarged(small: Iterator[bytes]) -> Iterator[bytes]:
    for number, data in enumerate(small):
        with Image.open(io.BytesIO(data)) as image:
            large = image.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)
            yield encode(large, "JPEG", quality=85)


def fully_decoded(data: bytes, size: tuple[int, int]) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(upright.resize(size[::-1], Image.Resampling.BILINEAR))


def scaled_and_full(files: Iterator[bytes], count: int) -> tuple[Pixels, Pixels]:
    """The pixels with and without the decoder's scaling, which differ within the bound."""
    pairs = [(decode_image(data, SIZE).pixels, fully_decoded(data, SIZE)) for data in files]
    assert len(pairs) == count
    scaled, full = np.stack([one for one, _ in pairs]), np.stack([other for _, other in pairs])
    differences = np.abs(scaled.astype(int) - full).mean(axis=(1, 2, 3))
    assert differences.max() <= MEAN_LEVELS
    assert differences.mean() > 0.01, "not scaled by the decoder at all"
    return scaled, full


@pytest.mark.parametrize(("side", "is_scaled"), [(439, False), (440, True)])
def test_of_a_share_of_the_image_there_are_enough_pixels(side: int, is_scaled: bool) -> None:
    """Two times 6 x 32 pixels for each side of the part that is kept, 0.875 of the image."""
    data = encode(photograph(9, side, side), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        margin = side / 16
        box = (margin, margin, side - margin, side - margin)
        full = np.asarray(image.resize(SIZE, Image.Resampling.BILINEAR, box))
    found = decode_image(data, SIZE, "crop-0.875").pixels
    assert (found != full).any() == is_scaled
    assert np.abs(found.astype(int) - full).mean() <= MEAN_LEVELS


def assert_same_labels(
    model: Classifier,
    pixels: tuple[Pixels, Pixels],
    *,
    tie: float = 0.0,
    seldom: float = PROBABILITY,
    least: float = SAME_LABEL,
) -> None:
    """Of probabilities nearer to each other than ``tie`` either may be on top."""
    found, expected = (
        np.concatenate([model.predict(images[i : i + 100]) for i in range(0, len(images), 100)])
        for images in pixels
    )
    differences = np.abs(found - expected).max(axis=1)
    assert np.quantile(differences, 0.99) <= PROBABILITY
    assert differences.max() <= seldom
    assert len(set(expected.argmax(axis=1).tolist())) > 2
    chosen = np.take_along_axis(expected, found.argmax(axis=1)[:, None], axis=1)[:, 0]
    same = (found.argmax(axis=1) == expected.argmax(axis=1)) | (expected.max(axis=1) - chosen < tie)
    assert same.mean() >= least


def test_synthetic_photographs(colour_model: Classifier, default_model: Classifier | None) -> None:
    """A model of real things has no opinion on many of these: its ties do not count."""
    pixels = scaled_and_full(large_jpegs(), PHOTOGRAPHS)
    assert_same_labels(colour_model, pixels)
    if default_model is not None and default_model.input_size == SIZE:
        assert_same_labels(default_model, pixels, tie=0.01, seldom=INTEGERS, least=0.98)


def test_enlarged_cifar_photographs(
    colour_model: Classifier, default_model: Classifier | None
) -> None:
    small = cifar_test_jpegs(ENLARGED)
    pixels = scaled_and_full(enlarged(data for _, data in small), ENLARGED)
    assert_same_labels(colour_model, pixels)
    if default_model is not None and default_model.input_size == SIZE:
        assert_same_labels(default_model, pixels, seldom=INTEGERS)


def test_wanted_pixels_keep_their_oversampling() -> None:
    """Just below the oversampling nothing is scaled: the pixels are those of the full decode."""
    side = 32 * DRAFT_OVERSAMPLING * 2
    for offset, scaled in ((-1, False), (0, True)):
        data = encode(photograph(0, side + offset, side + 40), "JPEG")
        difference = np.abs(
            decode_image(data, (32, 32)).pixels.astype(int) - fully_decoded(data, (32, 32))
        )
        assert (difference.max() > 0) == scaled


def test_odd_sizes_do_not_shift_the_image() -> None:
    """At an eighth, 97 columns become 13, of which the last has one source column in it, not 8.

    As a whole column it would shift this ramp by 9 to 13 levels. Some of it stays: the filter ends
    with the pixels that there are.
    """
    ramp = np.linspace(0, 255, 97).astype(np.uint8)
    data = encode(Image.fromarray(np.tile(ramp[None, :, None], (97, 1, 3))), "JPEG", quality=95)
    found, full = decode_image(data, (1, 2)).pixels, fully_decoded(data, (1, 2))
    assert np.abs(found.astype(int) - full).max() <= 6
