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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from training.calibration import fit_temperature
from training.config import TrainConfig
from training.data.batches import batches, epoch_order, image_weights, mirrored_images, steps_of
from training.data.dataset import Dataset, Split
from training.errors import FitError, RunError, Stopped
from training.fitting import checkpoint, pruning
from training.fitting.budget import Pace, out_of_time, pace_of
from training.fitting.checkpoint import Checkpoint, EpochLog
from training.fitting.distillation import load_teachers
from training.fitting.head import fit_head
from training.fitting.schedule import rate_factor
from training.fitting.state import TrainingState, restore, start, start_from, take_best, values_of
from training.fitting.step import Step, training_step
from training.networks.inference import predict_logits
from training.progress import bar, say

T = TypeVar("T")


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
        FitError: the loss is no longer a number, or the time budget leaves none to train.
        Stopped: Ctrl-C; the last complete epoch is kept.
    """
    began = time.monotonic() if started is None else started
    teachers = load_teachers(config)
    teachers.require_labels(dataset.labels)
    digests = {"images": dataset.digest(), "teachers": [each.digest for each in teachers.each]}
    identity = {**config.identity(), **digests}
    if saved is not None:
        checkpoint.require_same(saved, identity, config.run_folder)
    state = start(config, dataset)
    saved = _begun(state, identity) if saved is None else _resumed(state, saved)
    pace = pace_of(state, saved, began)
    try:
        saved = _train(state, training_step(state, teachers), saved, pace)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {_kept(config, saved)}") from None
    except RunError as error:  # the disk is full, for instance
        raise RunError(f"{error}; {_kept(config, saved)}") from error
    take_best(state, saved)
    return state.model


def _kept(config: TrainConfig, saved: Checkpoint) -> str:
    """What is left of a run that was stopped."""
    done = checkpoint.load(config.run_folder) or saved
    return (
        f"epoch {done.epochs} of {config.epochs} is kept in {config.run_folder}: the same command "
        "with --resume continues"
    )


def _begun(state: TrainingState, identity: dict[str, Any]) -> Checkpoint:
    """A new run's first checkpoint."""
    config = state.config
    if config.initial_weights:
        wanted = {**config.network_identity(), "images": identity["images"]}
        start_from(state, checkpoint.initial(config.initial_weights, wanted))
    losses = np.zeros(len(state.dataset.train), np.float32)
    saved = Checkpoint(identity, (), values_of(state.variables), losses=losses)
    if config.network.is_pretrained and not config.initial_weights:
        saved = _with_head(state, saved)
    checkpoint.save(saved, config.run_folder)  # finds out now whether it can be written
    return saved


def _with_head(state: TrainingState, saved: Checkpoint) -> Checkpoint:
    """The checkpoint once the last layer suits the pretrained features: an answer already."""
    fit_head(state.model, state.dataset.train)
    loss, accuracy = _measure(state.model, state.dataset.validation)
    say(f"last layer alone  validation loss {loss:.4f} accuracy {accuracy:.4f}")
    best = values_of(state.weights) if state.config.patience else ()
    variables = values_of(state.variables)
    return dataclasses.replace(saved, variables=variables, best=best, start_loss=loss)


def _resumed(state: TrainingState, saved: Checkpoint) -> Checkpoint:
    restore(state, saved)
    say(f"resuming after epoch {saved.epochs} of {state.config.epochs}")
    return saved


def _train(state: TrainingState, step: Step, saved: Checkpoint, pace: Pace) -> Checkpoint:
    """The epochs that are left, each ending in a checkpoint."""
    config = state.config
    with bar(total=pace.steps, initial=saved.epochs * state.steps, unit="step") as progress:
        while saved.epochs < config.epochs and not saved.finished:
            progress.set_description(f"epoch {saved.epochs + 1}/{config.epochs}")
            began = time.monotonic()
            sums = train_epoch(
                state,
                step,
                epoch=saved.epochs,
                losses=saved.losses,
                pace=pace,
                progress=progress,
            )
            if sums.images:  # not where the time was over before the first step
                saved = _close_epoch(state, saved, sums, began)
            elif not saved.log:
                raise out_of_time(config.max_minutes)
            is_over = pace.share(saved.epochs * state.steps) >= 1 or _is_tired(config, saved)
            saved = dataclasses.replace(saved, finished=is_over)
            checkpoint.save(saved, config.run_folder)
            if sums.images:
                _announce(config, saved)
    return saved


@dataclass
class EpochSums:
    """What an epoch's steps come to: sums over its images, and the time spent on waiting.

    `losses`: float32 [N], each image's last one, of this epoch or one before.
    """

    losses: NDArray[np.float32]
    loss: float = 0.0
    correct: float = 0.0
    images: int = 0
    waiting: float = 0.0  # seconds
    rate: float = 0.0  # of the last step

    def waited_for(self, items: Iterator[T]) -> Iterator[T]:
        """The items; the time that each takes to come is added up."""
        asked = time.monotonic()
        for item in items:
            self.waiting += time.monotonic() - asked
            yield item
            asked = time.monotonic()


def train_epoch(  # noqa: PLR0913 - all but two by keyword
    state: TrainingState,
    step: Step,
    *,
    epoch: int,
    losses: NDArray[np.float32],
    pace: Pace,
    progress: Any,
) -> EpochSums:
    """One pass over the images, or as much of it as there is time for.

    `epoch`: how many came before. `losses`: each image's last one, [N]. Raises FitError.
    """
    config, train = state.config, state.dataset.train
    steps, weights = _planned(state, epoch, losses, pace)
    mirrored = mirrored_images(config, epoch, len(train))
    peaks = np.array([group.peak for group in state.groups], np.float32)
    sums = EpochSums(losses.copy())
    coming = sums.waited_for(batches(train, steps, mirrored, weights))
    for i, (indices, batch) in enumerate(zip(steps, coming, strict=True)):
        # In steps of a full epoch, so that a pruned one ends where a full one would.
        number = epoch * state.steps + i * state.steps / len(steps)
        share = pace.share(number)
        if share >= 1:
            break
        factor = rate_factor(config.recipe, share)
        seed = np.array([config.seed, int(number)], np.int32)
        each, correct = step(batch, seed, peaks * np.float32(factor))
        loss = _finite(float(np.mean(each * batch.weights)), epoch, config)
        sums.losses[indices] = each
        sums.rate = config.learning_rate * factor
        sums.loss += loss * len(indices)
        sums.correct += correct
        sums.images += len(indices)
        accuracy = sums.correct / sums.images
        progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
        progress.update(round(pace.share(number + 1) * pace.steps) - progress.n)
    return sums


def _planned(
    state: TrainingState, epoch: int, losses: NDArray[np.float32], pace: Pace
) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
    """Which images each step of the coming epoch takes, and what every image's loss counts."""
    config, train = state.config, state.dataset.train
    order = epoch_order(config.seed, epoch, len(train))
    weights = image_weights(train.targets, len(state.dataset.labels), config.class_weighting)
    if config.prune_easy:
        easy = pruning.easy_images(losses, pace.share(epoch * state.steps))
        # The 1 keeps this apart from the draws for order and mirroring.
        rng = np.random.default_rng([config.seed, epoch, len(train), 1])
        order, weights = pruning.prune(order, weights, easy, config.prune_easy, rng)
    return np.array_split(order, steps_of(len(order), config.batch_size)), weights


def _finite(loss: float, epoch: int, config: TrainConfig) -> float:
    if not math.isfinite(loss):
        raise FitError(
            f"the loss became {loss} in epoch {epoch + 1}: try a lower --learning-rate "
            f"than {config.learning_rate}"
        )
    return loss


def _close_epoch(
    state: TrainingState, saved: Checkpoint, sums: EpochSums, began: float
) -> Checkpoint:
    """The checkpoint after an epoch that began at `began`, with its line in the log."""
    training_seconds = time.monotonic() - began
    loss, accuracy = _measure(state.model, state.dataset.validation)
    is_best = loss < min([saved.start_loss, *(row.validation_loss for row in saved.log)])
    row = EpochLog(
        epoch=saved.epochs + 1,
        learning_rate=sums.rate,
        loss=sums.loss / sums.images,
        accuracy=sums.correct / sums.images,
        validation_loss=loss,
        validation_accuracy=accuracy,
        seconds=time.monotonic() - began,
        waiting=sums.waiting / max(1e-9, training_seconds),
    )
    return dataclasses.replace(
        saved,
        log=(*saved.log, row),
        variables=values_of(state.variables),
        best=values_of(state.weights) if state.config.patience and is_best else saved.best,
        losses=sums.losses,
    )


def _is_tired(config: TrainConfig, saved: Checkpoint) -> bool:
    """Whether the last epochs were no better than one before them."""
    losses = [row.validation_loss for row in saved.log]
    return 0 < config.patience < len(losses) - losses.index(min(losses))


def _announce(config: TrainConfig, saved: Checkpoint) -> None:
    """Say what the last epoch came to. It is saved: whoever reads this may stop the run."""
    row = saved.log[-1]
    say(
        f"epoch {row.epoch:3d}  training loss {row.loss:.4f} accuracy {row.accuracy:.4f}  "
        f"validation loss {row.validation_loss:.4f} accuracy {row.validation_accuracy:.4f}  "
        f"{row.seconds:.0f} s"
    )
    if _is_tired(config, saved):
        say(f"no better validation loss for {config.patience} epochs: the best is kept")


def _measure(model: keras.Model, split: Split) -> tuple[float, float]:
    """Mean cross-entropy, at the temperature that suits the split, and accuracy."""
    logits = predict_logits(model, split.images)
    # The file is calibrated. A network that has become too sure of itself is none the worse.
    logits /= np.float32(fit_temperature(logits, split.targets))
    losses = keras.losses.sparse_categorical_crossentropy(split.targets, logits, from_logits=True)
    accuracy = (logits.argmax(axis=1) == split.targets).mean()
    return float(np.mean(losses.numpy())), float(accuracy)
