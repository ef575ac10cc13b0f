import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.augmentation import augment, move

HEIGHT, WIDTH, COUNT = 6, 8, 64
EVERYTHING: dict[str, Any] = {
    "shift": 1,
    "zoom": 0.3,
    "colour": 0.3,
    "cutout": 2,
}


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Pixels that all differ within an image, so that each tells where it came from."""
    one = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    return np.stack([one] * COUNT)


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    """Smooth images that all differ, 16x16."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(40, 200, (COUNT, 4, 4, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def some(mirrored: bool | None = False) -> NDArray[np.bool_]:
    """Every second image, all or none of them."""
    return np.arange(COUNT) % 2 == 1 if mirrored is None else np.full(COUNT, mirrored)


def moved(
    images: NDArray[np.uint8], mirrored: NDArray[np.bool_], step: int = 0, shift: int = 2
) -> NDArray[np.uint8]:
    result: NDArray[np.uint8] = move(
        images, mirrored, np.array([0, step], np.int32), shift=shift
    ).numpy()
    return result


def augmented(images: NDArray[np.uint8], step: int = 0, **options: Any) -> NDArray[np.float32]:
    config = dataclasses.replace(TrainConfig(shift=0), **options)
    return np.asarray(augment(images, some(), np.array([0, step], np.int32), config))


def test_nothing_asked_changes_nothing(images: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(augmented(images), images)


def test_those_that_are_asked_for_are_mirrored(images: NDArray[np.uint8]) -> None:
    result = moved(images, some(None), shift=0)

    np.testing.assert_array_equal(result[::2], images[::2])
    np.testing.assert_array_equal(result[1::2], images[1::2, :, ::-1])


def test_shifts_are_whole_pixels_both_ways_with_mirrored_borders(
    images: NDArray[np.uint8],
) -> None:
    padded = np.pad(images[0], ((2, 2), (2, 2), (0, 0)), mode="reflect")
    allowed = {
        padded[2 + down : 2 + down + HEIGHT, 2 + right : 2 + right + WIDTH].tobytes(): (down, right)
        for down in range(-2, 3)
        for right in range(-2, 3)
    }

    seen = {allowed[image.tobytes()] for image in moved(images, some())}

    assert {down for down, _ in seen} == {-2, -1, 0, 1, 2}
    assert {right for _, right in seen} == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("option", EVERYTHING)
def test_the_seed_alone_decides(photographs: NDArray[np.uint8], option: str) -> None:
    asked = {option: EVERYTHING[option]}

    first, again, other = (augmented(photographs, step, **asked) for step in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_all_together_stay_images_of_the_same(photographs: NDArray[np.uint8]) -> None:
    changed = augmented(photographs, **EVERYTHING)

    assert changed.shape == photographs.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 255
    # Each is still most like the image that it was made from.
    pairs = np.corrcoef(changed.reshape(COUNT, -1), photographs.reshape(COUNT, -1))
    nearest = pairs[:COUNT, COUNT:].argmax(axis=1)
    assert (nearest == np.arange(COUNT)).mean() > 0.7


def test_zoom_shows_a_part_in_full_size() -> None:
    ramp = np.broadcast_to(np.linspace(0, 240, 16)[:, None, None], (COUNT, 16, 16, 3))
    changed = augmented(ramp.astype(np.uint8), zoom=0.5)

    spans = np.ptp(changed, axis=1)[:, 0, 0]
    assert spans.min() > 0.49 * 239
    assert spans.max() <= 240
    assert np.ptp(spans) > 60
    assert (np.diff(changed[:, :, 0, 0], axis=1) >= 0).all()  # upright, whatever was cut away


def test_colour_keeps_shapes(photographs: NDArray[np.uint8]) -> None:
    dark = photographs // 2  # so that nothing is clipped
    changed = augmented(dark, colour=0.3)

    ratio = changed.mean(axis=(1, 2, 3)) / dark.mean(axis=(1, 2, 3))
    assert 0.65 < ratio.min() < 0.9
    assert 1.1 < ratio.max() < 1.35
    assert len(np.unique(changed[0].reshape(-1, 3), axis=0)) == 16


def test_cut_out_hides_one_square(photographs: NDArray[np.uint8]) -> None:
    changed = augmented(photographs, cutout=5)

    hidden = (changed != photographs).any(axis=3)
    assert set(hidden.sum(axis=(1, 2))) == {25}
    assert hidden.any(axis=(0, 1)).all()  # anywhere
    assert hidden.any(axis=(0, 2)).all()
    np.testing.assert_allclose(
        changed[hidden], np.broadcast_to(photographs.mean(axis=(0, 1, 2)), (25 * COUNT, 3)), 1e-4
    )
