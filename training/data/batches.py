"""An epoch's images: in which order, which of them mirrored, read while others are learned from."""

from __future__ import annotations

import math
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


def label_weights(targets: NDArray[np.int64], labels: int, balance: float) -> NDArray[np.float32]:
    """What an image of each label weighs in the loss: 1 on the average of all images."""
    counts = np.maximum(1, np.bincount(targets, minlength=labels)).astype(np.float64)
    weights = counts**-balance
    scaled: NDArray[np.float64] = weights * counts.sum() / (weights * counts).sum()
    return scaled.astype(np.float32)


@dataclass(frozen=True)
class Plan:
    """What an epoch does: which images each of its steps takes, and what every image weighs."""

    parts: list[NDArray[np.int64]]
    weights: NDArray[np.float32]  # [N], in the loss


def plan(
    config: TrainConfig, epoch: int, weights: NDArray[np.float32], easy: NDArray[np.bool_]
) -> Plan:
    """Batches of equal size but for one image, of all images or of all but some easy ones.

    The easy ones that are taken stand for those that are not, so the expected direction is that of
    all images (Qin et al., InfoBatch, 2023). What is taken weighs 1 on the average then.

    `weights`, float32 [N], is what each image's loss counts; `easy`, bool [N], says which images
    may be passed over.
    """
    order = epoch_order(config.seed, epoch, len(weights))
    if easy.any():
        # The 1 keeps this apart from the draws for order and mirroring.
        drawn = np.random.default_rng([config.seed, epoch, len(weights), 1]).random(len(weights))
        order = order[~(easy & (drawn < config.skip_easy))[order]]
        weights = np.where(easy, weights / np.float32(1 - config.skip_easy), weights)
        weights = weights / weights[order].mean()
    return Plan(np.array_split(order, math.ceil(len(order) / config.batch_size)), weights)


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


def batches(config: TrainConfig, split: Split, epoch: int, plan: Plan) -> Iterator[Batch]:
    """An epoch's batches; the next is read while one is used."""
    mirrored = mirrored_images(config, epoch, len(split))

    def read(part: NDArray[np.int64]) -> Batch:
        return Batch(split.images[part], split.targets[part], mirrored[part], plan.weights[part])

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, plan.parts[0])
        for part in [*plan.parts[1:], None]:
            batch = coming.result()
            if part is not None:
                coming = reader.submit(read, part)
            yield batch
