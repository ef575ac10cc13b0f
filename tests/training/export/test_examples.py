"""Test images in a model file: which ones, and as what."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.inference.contract import EXAMPLES_LENGTH, InputSpec
from service.inference.imaging import decode_image
from tests.training.conftest import fill_folder
from training.data.dataset import Split
from training.data.folders import list_images
from training.export import examples


@pytest.mark.parametrize(("labels", "each"), [(2, {5}), (3, {3, 4}), (10, {1}), (25, {0, 1})])
def test_ten_images_of_all_labels_or_of_ten(labels: int, each: set[int]) -> None:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(labels), 7))

    places = examples.chosen(targets)

    assert len(set(places.tolist())) == 10
    assert {*np.bincount(targets[places], minlength=labels).tolist()} == each


def test_as_many_as_there_are() -> None:
    assert sorted(examples.chosen(np.array([0, 1, 1])).tolist()) == [0, 1, 2]
    # Ten labels of a hundred are not the first ten.
    assert examples.chosen(np.arange(100)).tolist() == [*range(0, 100, 10)]


def file_of(image: str) -> bytes:
    return base64.b64decode(image.partition(",")[2])


def noise(side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)


def test_a_small_image_has_its_very_pixels() -> None:
    pixels = noise(28)
    image = examples.data_url(pixels)
    assert image.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(decode_image(file_of(image), (28, 28)).pixels, pixels)


@pytest.mark.parametrize("side", [32, 96, 512])
def test_ten_of_any_image_are_few_bytes(side: int) -> None:
    image = examples.data_url(noise(side))
    assert image.startswith("data:image/jpeg;base64,")
    assert len(file_of(image)) <= examples.MOST_BYTES
    with Image.open(io.BytesIO(file_of(image))) as read:
        assert min(read.size) >= 32


def test_as_many_as_there_may_be_of_the_most_bytes_fit_the_contract() -> None:
    largest = f"data:image/jpeg;base64,{base64.b64encode(bytes(examples.MOST_BYTES)).decode()}"
    assert examples.MOST * len(largest) <= EXAMPLES_LENGTH


def test_a_photograph_is_not_made_smaller_than_need_be() -> None:
    soft = Image.fromarray(noise(6)).resize((224, 160), Image.Resampling.BICUBIC)
    with Image.open(io.BytesIO(file_of(examples.data_url(np.asarray(soft))))) as read:
        assert (read.format, max(read.size)) == ("JPEG", 128)
        assert read.size[1] / read.size[0] == pytest.approx(160 / 224, abs=0.01)


def test_of_files_as_of_decoded_images(tmp_path: Path) -> None:
    listing = list_images(fill_folder(tmp_path, images=4))
    given = InputSpec(20, 16, "crop")
    pixels = [decode_image(path.read_bytes(), (20, 16), "crop").pixels for path in listing.paths]

    found = examples.of_split(Split(np.stack(pixels), listing.targets), listing.labels)

    assert examples.of_listing(listing, given) == found
    assert [example.label for example in found] == ["blue"] * 4 + ["green"] * 3 + ["red"] * 3
    listing.paths[0].write_bytes(b"no image")
    assert examples.of_listing(listing, given) == found[1:]
