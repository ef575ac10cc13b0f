from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.pixels import PixelFile, PixelWriter, spread


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 3, 5, 3), np.uint8)


@pytest.fixture
def path(images: NDArray[np.uint8], tmp_path: Path) -> Path:
    with PixelWriter(tmp_path / "run" / "pixels.bin") as writer:
        for image in images:
            writer.add(image)
    assert writer.count == 40
    return tmp_path / "run" / "pixels.bin"


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(3, 9),
        slice(None, None, 7),
        slice(35, 99),
        slice(4, 4),
        np.array([5]),
        np.array([5, 6, 7, 2, 3, 39, 0]),
        np.array([7, 7, 8]),
        np.array([], np.int64),
    ],
    ids=str,
)
def test_a_file_is_asked_like_an_array(
    path: Path, images: NDArray[np.uint8], key: slice | NDArray[np.int64]
) -> None:
    found = PixelFile(path, 0, 40, (3, 5))

    np.testing.assert_array_equal(found[key], images[key])
    assert found.shape == images.shape
    assert found[key].dtype == np.uint8


def test_a_part_of_the_file_is_an_array_of_its_own(path: Path, images: NDArray[np.uint8]) -> None:
    part = PixelFile(path, 10, 20, (3, 5))

    np.testing.assert_array_equal(np.asarray(part), images[10:30])
    np.testing.assert_array_equal(part[np.array([19, 0])], images[[29, 10]])
    for beyond in (20, -1):
        with pytest.raises(IndexError):
            part[np.array([beyond])]


@pytest.mark.parametrize("count", [1, 3, 500, 501, 999, 1800])
def test_every_label_is_in_an_even_sample(count: int) -> None:
    labels = np.sort(np.arange(count) % 10)

    indices = spread(count, 500)

    assert len(np.unique(indices)) == min(count, 500)
    assert (indices[0], indices[-1]) == (0, count - 1)
    shares = np.bincount(labels[indices]) / np.bincount(labels)
    assert shares.max() < 1.2 * shares.min()


def test_a_file_that_was_cut_is_noticed(path: Path) -> None:
    found = PixelFile(path, 0, 40, (3, 5))
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(OSError, match="shorter"):
        found[39:]


def test_a_file_that_is_not_finished_does_not_appear(tmp_path: Path) -> None:
    def fail() -> None:
        with PixelWriter(tmp_path / "pixels.bin") as writer:
            writer.add(np.zeros((2, 2, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert [*tmp_path.iterdir()] == []
