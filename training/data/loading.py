"""The data set that a configuration names, decoded and split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.config import TrainConfig
from training.data import cifar10
from training.data.dataset import Dataset, Split
from training.data.decoding import decode_splits
from training.data.folders import Listing, list_splits, stratified_split
from training.errors import DataError


def load(config: TrainConfig) -> Dataset:
    """The data set that the configuration names, decoded and split.

    Raises:
        DataError: naming the folder or file, for anything that cannot be trained on.
    """
    if config.data is None:
        return _downloaded_cifar10(config)
    train, validation, test = list_splits(config)
    is_cifar10 = config.dataset == "cifar10"
    if is_cifar10 and train.labels != cifar10.LABELS:
        raise DataError(
            f"{config.data} does not hold CIFAR-10: its labels are {', '.join(train.labels)}"
        )
    listings = {"train": train, "validation": validation, "test": test}
    decoded = decode_splits(config, listings)
    name = "CIFAR-10 (JPEG edition)" if is_cifar10 else config.data.resolve().name
    licence = cifar10.LICENCE if is_cifar10 else "not stated"
    return Dataset(name, config.data_licence or licence, train.labels, *decoded)


def _downloaded_cifar10(config: TrainConfig) -> Dataset:
    """CIFAR-10's original pixels."""
    if config.image_size != cifar10.SIZE:
        raise DataError("CIFAR-10 without --data is 32x32: give no other --image-size")
    (images, targets), test = cifar10.download()
    whole = Listing(Path("cifar10"), cifar10.LABELS, (), targets)
    kept, held = stratified_split(
        whole, config.validation_fraction, np.random.default_rng(config.seed)
    )
    return Dataset(
        "CIFAR-10",
        config.data_licence or cifar10.LICENCE,
        cifar10.LABELS,
        Split(images[kept], targets[kept]),
        Split(images[held], targets[held]),
        Split(*test),
    )
