"""Distillation: learning from other networks' answers (Hinton et al., 2015), and from labels.

A teacher is a model file like any other, asked through the code that serves. It sees what the
student sees, augmented in the same way (Beyer et al., 2022): of an unchanged training image it
would only repeat the label that it has memorised.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.errors import ModelError
from service.inference.model_files import read_model
from training.config import TrainConfig
from training.errors import DataError

WEIGHT = 0.9  # of the teachers' answers in a target; the label gives the rest
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Teacher:
    """An opened model file. `path`: for messages. `digest`: of its content, in hexadecimal."""

    path: Path
    digest: str
    model: Classifier


@dataclass(frozen=True)
class Teachers:
    """Those of a run, none or more, that answer together.

    `mirrors`: whether an image and its mirror image are to be answered alike, by the mean of both.
    `weight`: of the answers in a target, 0..1. `temperature`: what their logits are divided by.
    """

    each: tuple[Teacher, ...]
    mirrors: bool
    weight: float = WEIGHT
    temperature: float = TEMPERATURE

    def taught(
        self, images: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The targets, float32 [N, labels], moved towards what the teachers answer.

        `images`: float32 [N, H, W, 3] in 0 to 255, as they are learned from. Rows sum to 1.
        """
        answers = at_temperature(self.answers(images), self.temperature)
        return np.float32(1 - self.weight) * targets + np.float32(self.weight) * answers

    def answers(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of all teachers' probabilities, float32 [N, labels]."""
        pixels = np.rint(images).clip(0, np.iinfo(np.uint8).max).astype(np.uint8)
        views = [pixels, np.ascontiguousarray(pixels[:, :, ::-1])] if self.mirrors else [pixels]
        found = [teacher.model.predict(view) for teacher in self.each for view in views]
        mean: NDArray[np.float32] = np.mean(found, axis=0)
        return mean

    def require_labels(self, labels: Sequence[str]) -> None:
        """Raise DataError where a teacher knows other labels."""
        for teacher in self.each:
            known = teacher.model.card.labels
            if known != tuple(labels):
                raise DataError(
                    f"--teachers: {teacher.path} knows other labels: {', '.join(known)}"
                )


def load_teachers(config: TrainConfig) -> Teachers:
    """Those that the configuration names, opened.

    Raises DataError where one cannot be used, takes images of another size, or gives each label a
    probability that stands alone.
    """
    each = tuple(_opened(path, config) for path in config.teachers)
    return Teachers(each, mirrors=config.flip)


def _opened(path: Path, config: TrainConfig) -> Teacher:
    try:
        data = read_model(path)
        model = Classifier.open(data, path, threads=os.cpu_count() or 1)
    except ModelError as error:
        raise DataError(f"--teachers: {error}") from error
    if model.card.activation != "softmax":
        raise DataError(
            f"--teachers: {path} gives each label a probability that stands alone (activation "
            f"{model.card.activation}): only a teacher with a softmax can be learned from"
        )
    if model.input_size != config.image_size:
        height, width = model.input_size
        raise DataError(f"--teachers: {path} takes images of {height}x{width}: give --image-size")
    return Teacher(path, hashlib.sha256(data).hexdigest(), model)


def at_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The probabilities that logits divided by `temperature` have; the last axis sums to 1."""
    # Before the powers are summed the largest is 1: nothing vanishes altogether.
    scaled = probabilities / probabilities.max(axis=-1, keepdims=True)
    powers: NDArray[np.float32] = scaled ** np.float32(1 / temperature)
    sums: NDArray[np.float32] = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, sums)
