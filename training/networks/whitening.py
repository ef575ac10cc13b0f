"""The first layer of a staged network, made from the data: patches in a basis of equal variance.

The directions of largest variance among all patches of the training images (their covariance's
eigenvectors), each divided by its deviation and in both signs, as what follows is a rectifier.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.architectures import patch

DIRECTIONS = 24  # at the most; each gives two filters
# Variance, in units of a pixel's, below which a direction counts as noise and is not blown up.
NOISE = 1e-2
IMAGES_AT_ONCE = 100


def filters_in(image_size: tuple[int, int]) -> int:
    """How many filters the layer has for images of this size."""
    side, _ = patch(image_size)
    return 2 * min(DIRECTIONS, 3 * side * side)


def patch_moments(
    images: NDArray[np.uint8], mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Second moments of the patches of normalised images, [3 k², 3 k²]: channel, row, column.

    Args:
        images: uint8 [N, H, W, 3]; a few thousand are enough.
        mean: [3], of the channels.
        deviation: [3], of the channels.
    """
    side, stride = patch(images.shape[1:3])
    moments, count = np.zeros((3 * side * side,) * 2), 0
    for i in range(0, len(images), IMAGES_AT_ONCE):
        pixels = (images[i : i + IMAGES_AT_ONCE].astype(np.float32) - mean) / deviation
        views = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(1, 2))
        patches = views[:, ::stride, ::stride].reshape(-1, 3 * side * side)
        moments += patches.T @ patches
        count += len(patches)
    return moments / count


def filters_of(moments: NDArray[np.float64], noise: float = NOISE) -> NDArray[np.float32]:
    """Filters that make patches of these moments uncorrelated and of equal variance.

    Each direction is divided by the root of its variance + `noise`.

    Returns:
        float32 [k, k, 3, 2 * DIRECTIONS], or 6 k² filters where k is too small for so many.
    """
    side = math.isqrt(len(moments) // 3)
    values, vectors = np.linalg.eigh(moments)
    leading = np.argsort(values)[::-1][:DIRECTIONS]
    scaled = vectors[:, leading] / np.sqrt(np.maximum(values[leading], 0) + noise)
    filters = scaled.reshape(3, side, side, -1).transpose(1, 2, 0, 3)
    return np.concatenate([filters, -filters], axis=-1).astype(np.float32)
