"""A short training before the run: how many epochs there is time for, whether mirroring does harm.

Where left and right tell labels apart (hands, arrows, letters), a network that has seen no mirrored
image takes mirrored ones for something else. Photographs of most things it answers nearly as well.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.batches import Batch
from training.data.dataset import CHUNK, Dataset
from training.data.pixels import spread
from training.fitting.budget import Pace
from training.fitting.distillation import load_teachers
from training.fitting.head import fit_head
from training.fitting.loop import train_epoch
from training.fitting.state import TrainingState, start
from training.fitting.step import training_step
from training.intervals import share_interval
from training.networks.inference import predict_logits
from training.progress import bar, say

VISITS = 10_000  # images that a trial learns from, one that comes twice counted twice
FEW_VISITS = 1_000  # of a pretrained network, which knows something already
EPOCHS = 25  # that it has at the most, where there are few images
LEARNED = 0.98  # of the training images answered rightly: then it knows enough
ASKED = 2_000  # of the validation images
SECONDS = 60.0  # that it may take, however large the network is
BUDGET_SHARE = 1 / 8  # of --max-minutes, likewise
HARM = 1 / 2  # of the right answers that mirroring makes wrong, from where it is left off
DOUBT = 0.1  # the chance of finding harm where HARM of each label is lost; far less where less is
USUAL_SECONDS = 300.0  # of a run's training, where nothing is said about its length
FEWEST_EPOCHS, MOST_EPOCHS = 4, 100


@dataclass(frozen=True)
class Mirroring:
    """Validation images that were answered rightly, and what became of them when mirrored.

    Both int64 [labels]. `right`: how many were right. `lost`: how many of these are wrong as mirror
    images.
    """

    right: NDArray[np.int64]
    lost: NDArray[np.int64]

    @property
    def harms(self) -> bool:
        """Whether more than HARM of the right answers is lost: of all, or of one label's.

        By Wilson's lower bound, at a level that allows for looking at every label.
        """
        right, lost = ([int(each.sum()), *each.tolist()] for each in (self.right, self.lost))
        z = statistics.NormalDist().inv_cdf(1 - DOUBT / len(right))
        pairs = zip(lost, right, strict=True)
        return any(share_interval(k, n, z)[0] > HARM for k, n in pairs if n)

    @property
    def is_telling(self) -> bool:
        """Whether there are right answers enough to find harm, if there is any."""
        return Mirroring(self.right, self.right).harms


@dataclass(frozen=True)
class Found:
    """What a trial shows. `epoch_seconds`: what an epoch of the run will take."""

    epoch_seconds: float
    mirroring: Mirroring


def decided(config: TrainConfig, undecided: Collection[str], dataset: Dataset) -> TrainConfig:
    """The configuration with the options in `undecided`, of epochs and flip, chosen by a trial.

    Says what was chosen, and why. Raises FitError where the trial's loss is no longer a number.
    """
    shown = np.bincount(dataset.validation.targets, minlength=len(dataset.labels))
    if "epochs" not in undecided and not ("flip" in undecided and Mirroring(shown, shown).harms):
        found = Found(0.0, Mirroring(shown * 0, shown * 0))  # a trial could tell nothing
    else:
        found = trial(config, dataset)
    if "flip" in undecided:
        config = dataclasses.replace(config, flip=not found.mirroring.harms)
        say(_about_mirroring(found.mirroring))
    if "epochs" in undecided:
        epochs = round(USUAL_SECONDS / found.epoch_seconds)
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, epochs))
        config = dataclasses.replace(config, epochs=epochs)
        minutes = epochs * found.epoch_seconds / 60
        say(f"epochs {epochs}: some {minutes:.1f} minutes (--max-minutes or --epochs for more)")
    return config


def _about_mirroring(found: Mirroring) -> str:
    """What was chosen, and why."""
    counted = f"{found.lost.sum()} of {found.right.sum()} right answers in a trial"
    if found.harms:
        return f"mirroring off (--flip for it): mirror images cost {counted}"
    if found.is_telling:
        return f"mirroring on (--no-flip against it): mirror images cost {counted}"
    return (
        "mirroring on: too few validation images were answered rightly to find out whether left "
        "and right mean something (--no-flip if they do)"
    )


def trial(config: TrainConfig, dataset: Dataset) -> Found:
    """Train for a moment without mirroring, and look at the result; its weights are thrown away.

    Raises FitError where the loss is no longer a number.
    """
    images = len(dataset.train)
    is_pretrained = config.network.is_pretrained
    visits = min(FEW_VISITS if is_pretrained else VISITS, EPOCHS * images)
    plain = dataclasses.replace(config, flip=False, prune_easy=0.0)
    state = start(plain, dataset)
    if is_pretrained:
        fit_head(state.model, dataset.train)
    image_seconds = _train(state, visits)
    began = time.monotonic()
    mirroring, asked = _mirroring(state)
    answer_seconds = (time.monotonic() - began) / asked
    seconds = image_seconds * images + answer_seconds * len(dataset.validation)
    return Found(seconds, mirroring)


def _train(state: TrainingState, visits: int) -> float:
    """Train on so many images, or as long as a trial may; the seconds that each of them took."""
    config, images = state.config, len(state.dataset.train)
    teachers = load_teachers(config)
    teachers.require_labels(state.dataset.labels)
    step = training_step(state, teachers)
    ends: list[float] = []  # of the steps
    sizes: list[int] = []

    def timed(
        batch: Batch, seed: NDArray[np.int32], rates: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        result = step(batch, seed, rates)
        ends.append(time.monotonic())
        sizes.append(len(batch.targets))
        return result

    began = time.monotonic()
    limit = min(SECONDS, 60 * BUDGET_SHARE * config.max_minutes or math.inf)
    pace = Pace(math.ceil(visits / config.batch_size), limit, began)
    losses = np.zeros(images, np.float32)
    with bar(total=pace.steps, unit="step", desc="trial", leave=False) as progress:
        for epoch in range(math.ceil(visits / images)):
            sums = train_epoch(
                state, timed, epoch=epoch, losses=losses, pace=pace, progress=progress
            )
            if sums.correct >= LEARNED * images:
                break
    if len(ends) == 1:
        return (ends[0] - began) / sizes[0]
    return (ends[-1] - ends[0]) / sum(sizes[1:])  # the first one waits for a compiler


def _mirroring(state: TrainingState) -> tuple[Mirroring, int]:
    """What mirroring does to the answers, and how many there were."""
    split, labels = state.dataset.validation, len(state.dataset.labels)
    chosen = spread(len(split), ASKED)
    right, lost = np.zeros(labels, np.int64), np.zeros(labels, np.int64)
    for i in range(0, len(chosen), CHUNK):
        part = chosen[i : i + CHUNK]
        images, targets = split.images[part], split.targets[part]
        plain, mirrored = (
            predict_logits(state.model, shown).argmax(axis=1) == targets
            for shown in (images, images[:, :, ::-1])
        )
        right += np.bincount(targets[plain], minlength=labels)
        lost += np.bincount(targets[plain & ~mirrored], minlength=labels)
    return Mirroring(right, lost), 2 * len(chosen)
