"""CIFAR-10: its labels, its licence, and its original pixels as Keras downloads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.progress import quiet_start

LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
LICENCE = (
    "none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"
)
SIZE = (32, 32)

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def download() -> tuple[Labelled, Labelled]:
    """Training and test images, uint8 [N, 32, 32, 3], each with targets, int64 [N].

    From Keras' cache, or else by its downloader. Raises DataError where neither has them.
    """
    with quiet_start():
        import keras  # with --data, all is read before TensorFlow starts
    try:
        splits = keras.datasets.cifar10.load_data()
    except Exception as error:  # the downloader raises a bare Exception when it fails
        raise DataError(
            f"CIFAR-10 cannot be downloaded; give its folder with --data ({error})"
        ) from error
    train, test = ((images, targets.reshape(-1).astype(np.int64)) for images, targets in splits)
    return train, test
