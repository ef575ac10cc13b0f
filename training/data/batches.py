"""An epoch's images: in which order, which of them mirrored, read while others are learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.dataset import Split


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """In which order an epoch takes its images: another one in each epoch, whatever came before."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def mirrored_images(config: TrainConfig, epoch: int, images: int) -> NDArray[np.bool_]:
    """Which images an epoch mirrors, bool [images]: by chance, or each in every second epoch."""
    if not config.flip:
        return np.zeros(images, bool)
    alternating = config.recipe.alternating_flip
    # The images' number keeps this apart from the draws for their order.
    drawn = np.random.default_rng([config.seed, 0 if alternating else epoch, images])
    coins = drawn.integers(0, 2, images, np.int8)
    mirrored: NDArray[np.bool_] = (coins + (epoch if alternating else 0)) % 2 == 1
    return mirrored


def image_weights(
    targets: NDArray[np.int64], labels: int, class_weighting: float
) -> NDArray[np.float32]:
    """What each image's loss counts, float32 [N]: 1 on the average, more for rare labels.

    An image weighs 1 / (images of its label) to the power `class_weighting`.
    """
    counts = np.maximum(1, np.bincount(targets, minlength=labels)).astype(np.float64)
    weights = (counts**-class_weighting)[targets]
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled.astype(np.float32)


def steps_of(images: int, batch_size: int) -> int:
    """How many batches of at most this size take all images."""
    return math.ceil(images / batch_size)


@dataclass(frozen=True)
class Batch:
    """A step's images.

    `images`: uint8 [n, H, W, 3]. `targets`: int64 [n], their labels. `mirrored`: bool [n], whether
    they are to be mirrored. `weights`: float32 [n], what their losses count.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    weights: NDArray[np.float32]


def batches(
    split: Split,
    steps: Sequence[NDArray[np.int64]],
    mirrored: NDArray[np.bool_],
    weights: NDArray[np.float32],
) -> Iterator[Batch]:
    """An epoch's batches; the next is read while one is used.

    `steps`: which images each takes. `mirrored` and `weights`: [N], of all images.
    """

    def read(indices: NDArray[np.int64]) -> Batch:
        images, targets = split.images[indices], split.targets[indices]
        return Batch(images, targets, mirrored[indices], weights[indices])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, steps[0])
        for indices in [*steps[1:], None]:
            batch = coming.result()
            if indices is not None:
                coming = reader.submit(read, indices)
            yield batch
