import keras
import numpy as np
import pytest

from training.networks.whitening import filters_in, filters_of, patch_moments


def test_whitened_patches_are_uncorrelated_and_of_equal_variance() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(200, 9, 9, 1)).cumsum(axis=1).cumsum(axis=2)
    images = (128 + 10 * smooth + rng.normal(0, 9, (200, 9, 9, 3))).clip(0, 255).astype(np.uint8)
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    filters = filters_of(patch_moments(images, mean, deviation), noise=1e-9)

    assert filters.shape == (2, 2, 3, 24)
    normalised = ((images - mean) / deviation).astype(np.float32)
    answers = np.asarray(keras.ops.conv(normalised, filters)).reshape(-1, 24)
    moments = answers.T @ answers / len(answers)
    np.testing.assert_allclose(moments[:12, :12], np.eye(12), atol=0.02)
    np.testing.assert_allclose(answers[:, 12:], -answers[:, :12], atol=1e-4)


def test_noise_is_not_blown_up() -> None:
    images = np.full((50, 8, 8, 3), 100, np.uint8)
    images[:, ::2] = 150
    mean, deviation = np.full(3, 125.0, np.float32), np.full(3, 25.0, np.float32)

    filters = filters_of(patch_moments(images, mean, deviation))

    assert np.abs(filters).max() <= 10  # 1 / sqrt(0.01)


@pytest.mark.parametrize("side", [16, 64, 128])
def test_there_are_as_many_filters_as_the_network_is_built_for(side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    mean, deviation = np.full(3, 128.0, np.float32), np.full(3, 60.0, np.float32)

    filters = filters_of(patch_moments(images, mean, deviation))

    assert filters.shape[-1] == filters_in((side, side))
