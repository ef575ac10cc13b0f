"""How far a run is, by its steps or by the time that it may take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from training.errors import FitError
from training.fitting.checkpoint import Checkpoint
from training.fitting.state import TrainingState
from training.networks.inference import inference_batch, predict_logits

SPARE_SECONDS = 15.0  # of a time budget: what exporting takes apart from asking for answers
TEST_ROUNDS = 3  # over the test images: by Keras, by the file, and once for comfort
# In integers: over all that is held back by both files, over test by Keras and the file once more.
QUANTISED_ROUNDS = 4
QUANTISED_ANSWERS = 4_000  # what the ranges and the timings take
FAMILIARITY_ANSWERS = 3_000  # training images to compare with, and images held back


@dataclass(frozen=True)
class Pace:
    """How far a run is, 0 to 1: by its steps or by the clock, whichever is further."""

    steps: int
    seconds: float  # infinite where there is no budget
    started: float  # on the monotonic clock

    def share(self, step: float) -> float:
        """The part that is done before this step; 1 ends the run.

        Where an epoch takes fewer steps than others, each of them counts for more than one.
        """
        return min(1.0, max(step / self.steps, (time.monotonic() - self.started) / self.seconds))


def pace_of(state: TrainingState, saved: Checkpoint, began: float) -> Pace:
    """The whole run's; what was trained before a resume counts as time, too.

    `began`: on the monotonic clock. Raises FitError where no time is left to train.
    """
    steps = state.config.epochs * state.steps
    if not state.config.max_minutes:
        return Pace(steps, math.inf, began)
    before = sum(row.seconds for row in saved.log)
    seconds = state.config.max_minutes * 60 - export_seconds(state)
    if seconds <= time.monotonic() - began:
        raise out_of_time(state.config.max_minutes)
    return Pace(steps, seconds, began - before)


def out_of_time(minutes: float) -> FitError:
    """What is raised where a budget leaves no time to train."""
    return FitError(
        f"--max-minutes: reading and writing alone take longer than {minutes:g} minutes"
    )


def export_seconds(state: TrainingState) -> float:
    """What exporting will take: so many answers, and something on top."""
    dataset, config = state.dataset, state.config
    sample = dataset.validation.images[: inference_batch(config.image_size)]
    predict_logits(state.model, sample)
    started = time.monotonic()
    predict_logits(state.model, sample)
    each = (time.monotonic() - started) / len(sample)
    answers = TEST_ROUNDS * len(dataset.test)
    if config.quantize:
        held_back = len(dataset.test) + len(dataset.validation)
        answers += QUANTISED_ROUNDS * held_back + QUANTISED_ANSWERS
    answers += min(FAMILIARITY_ANSWERS, len(dataset.train) + len(dataset.validation))
    return SPARE_SECONDS + each * answers
