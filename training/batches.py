"""An epoch's images: in which order, which of them mirrored, read while others are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.datasets import Split


def epoch_order(seed: int, epoch: int, images: int) -> NDArray[np.int64]:
    """In which order an epoch takes its images: another one in each epoch, whatever came before."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def mirrored_images(config: TrainConfig, epoch: int, images: int) -> NDArray[np.bool_]:
    """Which images an epoch mirrors: by chance, or each in every second epoch."""
    if not config.flip:
        return np.zeros(images, bool)
    # The images' number keeps this apart from the draws for their order.
    drawn = np.random.default_rng([config.seed, 0 if config.alternate else epoch, images])
    coins = drawn.integers(0, 2, images, np.int8)
    mirrored: NDArray[np.bool_] = (coins + (epoch if config.alternate else 0)) % 2 == 1
    return mirrored


@dataclass(frozen=True)
class Batch:
    """A step's images.

    `images`: uint8 [n, H, W, 3]. `targets`: [n], their labels. `wanted`: float32 [n, labels], what
    is to be answered, rows summing to 1. `mirrored`: [n], whether they are to be mirrored.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    wanted: NDArray[np.float32]
    mirrored: NDArray[np.bool_]


@dataclass(frozen=True)
class Lesson:
    """What is learned: a split's labels, as many as `labels`, and a teacher's answers, if any."""

    split: Split
    labels: int
    answers: NDArray[np.float32] | None = None  # [N, 2, labels], see `teaching.lessons`
    weight: float = 0.0  # of the teacher's answers

    def wanted(self, part: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What is to be answered to these images."""
        exact = np.eye(self.labels, dtype=np.float32)[self.split.targets[part]]
        if self.answers is None:
            return exact
        taught = self.answers[part, mirrored.astype(np.intp)]
        return np.float32(1 - self.weight) * exact + np.float32(self.weight) * taught


def batches(config: TrainConfig, lesson: Lesson, epoch: int, steps: int) -> Iterator[Batch]:
    """An epoch's batches, of equal size but for one image; the next is read while one is used."""
    split = lesson.split
    mirrored = mirrored_images(config, epoch, len(split))

    def read(part: NDArray[np.int64]) -> Batch:
        flips = mirrored[part]
        return Batch(split.images[part], split.targets[part], lesson.wanted(part, flips), flips)

    parts = np.array_split(epoch_order(config.seed, epoch, len(split)), steps)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, parts[0])
        for part in [*parts[1:], None]:
            batch = coming.result()
            if part is not None:
                coming = reader.submit(read, part)
            yield batch
