"""Learning from other networks' answers (Hinton et al., 2015), and not from labels alone.

A teacher is a model file like any other, asked through the code that serves. It sees the very
pixels that the pupil sees, however they were changed (Beyer et al., 2022: a teacher that answers to
the unchanged image tells what it knows by heart). Several teachers are better than each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from training.config import TrainConfig
from training.datasets import Dataset
from training.errors import DataError

ASKED_AT_ONCE = 64  # images
THREADS = 2
PIXEL_MAX = 255.0


@dataclass(frozen=True)
class Teachers:
    """Model files that know the same labels and take images of the same size.

    `mirrors`: whether an image and its mirror image are to be answered alike, by the mean of both.
    `weight`: of the answers in a target, 0..1. `softening`: their temperature.
    """

    models: tuple[Classifier, ...]
    mirrors: bool
    weight: float
    softening: float

    def taught(
        self, images: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The targets, float32 [N, labels], moved towards what the teachers answer.

        `images`: float32 [N, H, W, 3] in 0 to 255, as the pupil sees them. Rows sum to 1.
        """
        answers = softened(self.answers(images), self.softening)
        return np.float32(1 - self.weight) * targets + np.float32(self.weight) * answers

    def answers(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of all teachers' probabilities, float32 [N, labels]."""
        pixels = np.clip(np.rint(images), 0, PIXEL_MAX).astype(np.uint8)
        views = [pixels, np.ascontiguousarray(pixels[:, :, ::-1])] if self.mirrors else [pixels]
        found = [
            np.concatenate(
                [
                    model.predict(view[i : i + ASKED_AT_ONCE])
                    for i in range(0, len(view), ASKED_AT_ONCE)
                ]
            )
            for model in self.models
            for view in views
        ]
        mean: NDArray[np.float32] = np.mean(found, axis=0)
        return mean


def teachers_of(config: TrainConfig, dataset: Dataset) -> Teachers | None:
    """Those that the configuration names, opened; None where it names none.

    Raises DataError where one knows other labels or takes images of another size.
    """
    if not config.teachers:
        return None
    models = tuple(Classifier.load(path, threads=THREADS) for path in config.teachers)
    for path, model in zip(config.teachers, models, strict=True):
        _require_fit(model, path, config, dataset)
    return Teachers(models, config.flip, config.teaching, config.softening)


def softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The probabilities that logits divided by `temperature` have; the last axis sums to 1."""
    # Before the powers are summed the largest is 1: nothing vanishes altogether.
    scaled = probabilities / probabilities.max(axis=-1, keepdims=True)
    powers: NDArray[np.float32] = scaled ** np.float32(1 / temperature)
    sums: NDArray[np.float32] = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, sums)


def _require_fit(teacher: Classifier, path: Path, config: TrainConfig, dataset: Dataset) -> None:
    if teacher.card.labels != dataset.labels:
        raise DataError(f"--teachers: {path} knows other labels: {', '.join(teacher.card.labels)}")
    if teacher.input_size != config.image_size:
        height, width = teacher.input_size
        raise DataError(f"--teachers: {path} takes images of {height}x{width}: give --image-size")
