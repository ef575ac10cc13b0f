"""The loop: epochs of steps, a checkpoint after each, resume.

Everything random is a function of the seed and of how far the run is: the order of an epoch's
images, each step's augmentation, and dropout (its generator's state is one of the network's
variables). So a checkpoint holds the variables, each image's last loss and the log, and nothing
else is needed to go on as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training import checkpoint
from training.batches import Plan, batches, label_weights, plan
from training.checkpoint import Checkpoint, EpochLog
from training.config import TrainConfig
from training.datasets import Dataset, Split
from training.errors import FitError, Stopped
from training.progress import bar, say
from training.run import (
    Run,
    averaged,
    inference_batch,
    predict_logits,
    restore,
    start,
    start_from,
    take_result,
    values_of,
)
from training.schedule import Pace, rate_factor, size_at
from training.step import training_step
from training.teaching import Teachers, teachers_of

ALL_IMAGES_FROM = 7 / 8  # of a run: no easy ones are passed over
SPARE_SECONDS = 15.0  # of a time budget: what exporting takes apart from asking for answers
TEST_ROUNDS = 3  # over the test images: by Keras, by the file, and once for comfort
# In integers: over all that is held back by both files, over test by Keras and the file once more.
QUANTISED_ROUNDS = 4
QUANTISED_ANSWERS = 4_000  # what the ranges and the timings take


def fit(
    config: TrainConfig,
    dataset: Dataset,
    saved: Checkpoint | None = None,
    started: float | None = None,
) -> keras.Model:
    """Train, or go on from a saved state, and return the network (float32 pixels → logits).

    Without `max_minutes` the result depends on the configuration and the training images alone,
    and is the same (for a given machine and TensorFlow) whether the run was stopped and resumed or
    not. `started`, on the monotonic clock, is when the time budget began, if that was before now.

    Raises:
        DataError: a teacher cannot be used, or knows other labels.
        RunError: `saved` is of other settings or images, the initial weights do not fit, or the
            run folder cannot be written.
        FitError: the loss is no longer a number.
        Stopped: Ctrl-C; the last complete epoch is kept.
    """
    began = time.monotonic() if started is None else started
    teachers = teachers_of(config)
    teachers.require_labels(dataset.labels)
    identity = {
        **config.identity(),
        "images": dataset.digest(),
        "teachers": [teacher.digest for teacher in teachers.each],
    }
    if saved is not None:
        checkpoint.require_same(saved, identity, config.run_folder)
    run = start(config, dataset)
    saved = _begun(run, identity) if saved is None else _resumed(run, saved)
    try:
        saved = _train(run, teachers, saved, _pace(run, saved, began))
    except KeyboardInterrupt:
        done = checkpoint.load(config.run_folder) or saved
        raise Stopped(
            f"stopped; epoch {done.epochs} of {config.epochs} is kept in {config.run_folder}: "
            "the same command with --resume continues"
        ) from None
    take_result(run, saved)
    return run.model


def _begun(run: Run, identity: dict[str, Any]) -> Checkpoint:
    """A new run's first checkpoint."""
    config = run.config
    if config.initial_weights:
        start_from(run, checkpoint.initial(config.initial_weights, identity))
    losses = np.zeros(len(run.dataset.train), np.float32)
    saved = Checkpoint(identity, (), values_of(run.variables), losses=losses)
    checkpoint.save(saved, config.run_folder)  # finds out now whether it can be written
    return saved


def _resumed(run: Run, saved: Checkpoint) -> Checkpoint:
    restore(run, saved)
    say(f"resuming after epoch {saved.epochs} of {run.config.epochs}")
    return saved


def _pace(run: Run, saved: Checkpoint, began: float) -> Pace:
    """The whole run's; what was trained before a resume counts as time, too."""
    steps = run.config.epochs * run.steps
    if not run.config.max_minutes:
        return Pace(steps, math.inf, began)
    before = sum(row.seconds for row in saved.log)
    seconds = run.config.max_minutes * 60 - _reserve(run)
    if seconds <= time.monotonic() - began:
        raise _out_of_time(run.config)
    return Pace(steps, seconds, began - before)


def _out_of_time(config: TrainConfig) -> FitError:
    return FitError(
        f"--max-minutes: reading and writing alone take longer than {config.max_minutes:g} minutes"
    )


def _reserve(run: Run) -> float:
    """Seconds that exporting will take: so many answers, and something on top."""
    sample = run.dataset.validation.images[: inference_batch(run.config.image_size)]
    predict_logits(run.model, sample)
    started = time.monotonic()
    predict_logits(run.model, sample)
    each = (time.monotonic() - started) / len(sample)
    answers = TEST_ROUNDS * len(run.dataset.test)
    if run.config.quantize:
        held_back = len(run.dataset.test) + len(run.dataset.validation)
        answers += QUANTISED_ROUNDS * held_back + QUANTISED_ANSWERS
    return SPARE_SECONDS + each * answers


def _train(run: Run, teachers: Teachers, saved: Checkpoint, pace: Pace) -> Checkpoint:
    """The epochs that are left, each ending in a checkpoint."""
    config = run.config
    split, labels = run.dataset.train, len(run.dataset.labels)
    weights = label_weights(split.targets, labels, config.balance)[split.targets]
    work = Work(weights, training_step(run, teachers))
    with bar(total=pace.steps, initial=saved.epochs * run.steps, unit="step") as progress:
        for epoch in range(saved.epochs, config.epochs):
            if saved.finished:
                break
            progress.set_description(f"epoch {epoch + 1}/{config.epochs}")
            started = time.monotonic()
            trained = _train_epoch(run, work, saved, pace, progress)
            if trained.images:  # not where the time was over before the first step
                saved = _close_epoch(run, saved, trained, started)
            elif not saved.log:
                raise _out_of_time(config)
            saved = dataclasses.replace(saved, finished=_is_over(run, saved, pace))
            checkpoint.save(saved, config.run_folder)
    return saved


@dataclass(frozen=True)
class Work:
    """What every epoch does."""

    weights: NDArray[np.float32]  # [N], of the images' losses
    step: Callable[..., Any]


def _plan(run: Run, work: Work, saved: Checkpoint, pace: Pace) -> Plan:
    """The coming epoch's: easy images are passed over in the middle of the run."""
    easy = np.zeros(len(work.weights), bool)
    share = pace.share(saved.epochs * run.steps)
    if run.config.skip_easy and share < ALL_IMAGES_FROM:
        easy = saved.losses < saved.losses.mean()  # none before the first epoch, all being 0
    return plan(run.config, saved.epochs, work.weights, easy)


@dataclass
class Trained:
    """What an epoch's steps came to: sums over its images, and the time spent on waiting.

    `losses`: float32 [N], each image's last one, of this epoch or one before.
    """

    losses: NDArray[np.float32]
    loss: float = 0.0
    correct: float = 0.0
    images: int = 0
    waiting: float = 0.0
    rate: float = 0.0


def _close_epoch(run: Run, saved: Checkpoint, trained: Trained, started: float) -> Checkpoint:
    """The checkpoint after an epoch that began at `started`, with its line in the log."""
    training_seconds = time.monotonic() - started
    with averaged(run):
        loss, accuracy = _measure(run.model, run.dataset.validation)
        better = all(loss < row.validation_loss for row in saved.log)
        best = values_of(run.weights) if run.config.patience and better else saved.best
    row = EpochLog(
        epoch=saved.epochs + 1,
        learning_rate=trained.rate,
        loss=trained.loss / trained.images,
        accuracy=trained.correct / trained.images,
        validation_loss=loss,
        validation_accuracy=accuracy,
        seconds=time.monotonic() - started,
        waiting=trained.waiting / max(1e-9, training_seconds),
    )
    say(
        f"epoch {row.epoch:3d}  loss {row.loss:.4f}  accuracy {row.accuracy:.4f}  "
        f"validation {row.validation_loss:.4f} {row.validation_accuracy:.4f}  {row.seconds:.0f} s"
    )
    return dataclasses.replace(
        saved,
        log=(*saved.log, row),
        variables=values_of(run.variables),
        best=best,
        losses=trained.losses,
    )


def _is_over(run: Run, saved: Checkpoint, pace: Pace) -> bool:
    """Whether no epoch is to follow."""
    if pace.share(saved.epochs * run.steps) >= 1:
        return True
    losses = [row.validation_loss for row in saved.log]
    tired = 0 < run.config.patience < len(losses) - losses.index(min(losses))
    if tired:
        say(f"no better validation loss for {run.config.patience} epochs: the best is kept")
    return tired


def _train_epoch(run: Run, work: Work, saved: Checkpoint, pace: Pace, progress: Any) -> Trained:
    """One pass over the images, or as much of it as there is time for."""
    config, epoch, planned = run.config, saved.epochs, _plan(run, work, saved, pace)
    done = Trained(saved.losses.copy())
    asked = time.monotonic()
    for i, batch in enumerate(batches(config, run.dataset.train, epoch, planned)):
        done.waiting += time.monotonic() - asked
        number = epoch * run.steps + i * run.steps / len(planned.parts)
        share = pace.share(number)
        if share >= 1:
            break
        done.rate = config.learning_rate * rate_factor(config, share)
        rates = np.array([g.peak for g in run.groups], np.float32) * rate_factor(config, share)
        seed = np.array([config.seed, int(number)], np.int32)
        results = work.step(batch, seed, rates, size_at(config, share))
        losses, correct = results[0].numpy(), float(results[1])
        loss = float(np.mean(losses * batch.weights))
        if not math.isfinite(loss):
            raise FitError(
                f"the loss became {loss} in epoch {epoch + 1}: try a lower --learning-rate "
                f"than {config.learning_rate}"
            )
        done.losses[planned.parts[i]] = losses
        done.loss += loss * len(batch.targets)
        done.correct += correct
        done.images += len(batch.targets)
        accuracy = done.correct / done.images
        progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        progress.update(round(pace.share(number + 1) * pace.steps) - progress.n)
        asked = time.monotonic()
    return done


def _measure(model: keras.Model, split: Split) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of a split."""
    logits = predict_logits(model, split.images)
    losses = keras.losses.sparse_categorical_crossentropy(split.targets, logits, from_logits=True)
    accuracy = (logits.argmax(axis=1) == split.targets).mean()
    return float(np.mean(losses.numpy())), float(accuracy)
