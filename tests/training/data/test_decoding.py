from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.imaging import decode_image
from tests.training.conftest import fill_folder
from training.config import TrainConfig
from training.data.decoding import decoded
from training.data.folders import list_images, list_splits


def test_pixels_are_those_the_service_decodes(config: TrainConfig) -> None:
    listing = list_splits(config)[2]

    found = decoded(listing.paths, (20, 16), "crop", "test")

    expected = [decode_image(path.read_bytes(), (20, 16), "crop").pixels for path in listing.paths]
    pixels = [read.image.pixels for read in found if not isinstance(read, str)]
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", ["large.jpg", "scan.tiff", "phone.avif", "map.ppm"])
def test_what_the_project_can_read_is_trained_on(tmp_path: Path, name: str) -> None:
    """Of a person's own files more than of what strangers send, and larger ones."""
    side = (12_000, 9_000) if name == "large.jpg" else (30, 20)
    Image.new("RGB", side, (40, 60, 200)).save(tmp_path / name)
    folder = fill_folder(tmp_path / "photos", images=2)
    (tmp_path / name).rename(folder / "blue" / name)

    paths = [path for path in list_images(folder).paths if path.name == name]

    (found,) = decoded(paths, (20, 16), "stretch", "x")
    assert not isinstance(found, str), found
    assert np.abs(found.image.pixels.astype(int) - (40, 60, 200)).max() < 4
