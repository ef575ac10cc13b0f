"""Learning from a larger network's answers (Hinton et al., 2015), and not from labels alone.

The teacher is a model file like any other. It is asked once about every training image and about
its mirror image, through the code that serves; its probabilities, softened, are targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from training.config import TrainConfig
from training.datasets import Dataset
from training.errors import DataError
from training.progress import bar

ASKED_AT_ONCE = 100
THREADS = 2


def lessons(config: TrainConfig, dataset: Dataset) -> NDArray[np.float32] | None:
    """The teacher's softened answers, float32 [N, 2, labels]: to each image and its mirror image.

    None without a teacher. Rows sum to 1. Raises DataError where the teacher knows other labels or
    takes images of another size.
    """
    if config.teacher is None:
        return None
    teacher = Classifier.load(config.teacher, threads=THREADS)
    _require_fit(teacher, config.teacher, config, dataset)
    images = dataset.train.images
    found = np.empty((len(images), 2, len(dataset.labels)), np.float32)
    for i in bar(range(0, len(images), ASKED_AT_ONCE), desc="asking the teacher", unit="batch"):
        part = images[i : i + ASKED_AT_ONCE]
        for side, seen in enumerate((part, np.ascontiguousarray(part[:, :, ::-1]))):
            found[i : i + len(part), side] = teacher.predict(seen)
    return softened(found, config.softening)


def softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The probabilities that logits divided by `temperature` have; the last axis sums to 1."""
    # Before the powers are summed the largest is 1: nothing vanishes altogether.
    scaled = probabilities / probabilities.max(axis=-1, keepdims=True)
    powers: NDArray[np.float32] = scaled ** np.float32(1 / temperature)
    sums: NDArray[np.float32] = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, sums)


def _require_fit(teacher: Classifier, path: Path, config: TrainConfig, dataset: Dataset) -> None:
    if teacher.card.labels != dataset.labels:
        raise DataError(f"--teacher: {path} knows other labels: {', '.join(teacher.card.labels)}")
    if teacher.input_size != config.image_size:
        height, width = teacher.input_size
        raise DataError(f"--teacher: {path} takes images of {height}x{width}: give --image-size")
