"""A run: network, optimisers and averages, as they are before the first step or at a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.architectures import ARCHITECTURES, Shape, served, whitening_filters
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.datasets import Dataset
from training.optimizers import Group, groups
from training.pixels import Images, spread
from training.symmetry import pair

INFERENCE_BATCH = 128
SAMPLE = 2_000  # images that the first layer is made from


@dataclass(frozen=True)
class Run:
    """What is being optimised, and what it is optimised on."""

    config: TrainConfig
    dataset: Dataset
    model: keras.Model
    shape: Shape
    groups: list[Group]
    averages: list[keras.Variable]  # of `weights`, or none

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return math.ceil(len(self.dataset.train) / self.config.batch_size)

    @property
    def weights(self) -> list[keras.Variable]:
        """All that the network's answers depend on: batch norms' figures too, no generators."""
        return self.model.weights  # type: ignore[no-any-return]

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that training changes, random generators' states included."""
        optimizers = [v for group in self.groups for v in group.optimizer.variables]
        return [*self.model.variables, *optimizers, *self.averages]


def start_devices() -> None:
    """Let TensorFlow look for its devices now, and make its sums repeatable."""
    # Sums that threads share are otherwise added up in whatever order they finish.
    tf.config.experimental.enable_op_determinism()
    tf.config.list_logical_devices()


def start(config: TrainConfig, dataset: Dataset) -> Run:
    """A network with its first weights, and its optimisers."""
    keras.utils.set_random_seed(config.seed)
    start_devices()
    shape = shape_for(config, dataset)
    model = ARCHITECTURES[config.architecture].build(shape, False)
    if config.symmetric:
        pair(model)
    averages = []
    if config.average:
        averages = [keras.Variable(weight.numpy(), trainable=False) for weight in model.weights]
    return Run(config, dataset, model, shape, groups(config, model), averages)


def shape_for(config: TrainConfig, dataset: Dataset) -> Shape:
    """What the network is built for: the options, and what the training images tell."""
    images = dataset.train.images
    mean, deviation = channel_statistics(images)
    whitening = None
    if ARCHITECTURES[config.architecture].whitens:
        most = min(SAMPLE, SAMPLE * 64 * 64 // math.prod(config.image_size))
        sample = images[spread(len(images), most)]
        whitening = whitening_filters(
            sample, mean, deviation, config.whitening, symmetric=config.symmetric
        )
    return replace(
        bare_shape(config),
        labels=len(dataset.labels),
        mean=mean,
        deviation=deviation,
        whitening=whitening,
    )


def bare_shape(config: TrainConfig) -> Shape:
    """What the options alone tell of it: one label, and pixels as they are."""
    return Shape(
        config.image_size,
        labels=1,
        dropout=config.dropout,
        mean=np.zeros(3, np.float32),
        deviation=np.ones(3, np.float32),
        width=config.width,
        depth=config.depth,
        activation=config.activation,
        branches=config.branches,
    )


def served_network(model: keras.Model, config: TrainConfig) -> keras.Model:
    """A trained network as it is exported: see `architectures.served`."""
    return served(model, ARCHITECTURES[config.architecture], bare_shape(config))


def channel_statistics(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each channel, float32 [3] each, over uint8 [N, H, W, 3].

    A deviation below 1 (pictures of one colour) is given as 1.
    """
    # From counts of the 256 values: exact, and without a float copy of the images.
    values = np.arange(256)
    counts = np.zeros((3, 256), np.int64)
    size = inference_batch(images.shape[1:3])
    for i in range(0, len(images), size):
        chunk = images[i : i + size]
        for channel in range(3):
            counts[channel] += np.bincount(chunk[..., channel].reshape(-1), minlength=256)
    means = [float(n @ values / n.sum()) for n in counts]
    squares = [float(n @ values**2 / n.sum()) for n in counts]
    deviations = [math.sqrt(max(1.0, s - m * m)) for m, s in zip(means, squares, strict=True)]
    return np.array(means, np.float32), np.array(deviations, np.float32)


def restore(run: Run, saved: Checkpoint) -> None:
    """Put the run where the checkpoint was."""
    for variable, value in zip(run.variables, saved.variables, strict=True):
        variable.assign(value)


def start_from(run: Run, saved: Checkpoint) -> None:
    """Give the network the weights that another run has come to, and nothing else of it."""
    averages = saved.variables[-len(run.weights) :] if saved.identity["average"] else ()
    _assign(run.model.variables, saved.variables)
    _assign(run.weights, saved.best or averages)
    _assign(run.averages, values_of(run.weights))


def take_result(run: Run, saved: Checkpoint) -> None:
    """Give the network the weights that the run ends with: the best, the averaged, or these."""
    _assign(run.weights, saved.best or values_of(run.averages))


def _assign(variables: Sequence[keras.Variable], values: Sequence[NDArray[Any]]) -> None:
    """As many as there are of both."""
    for variable, value in zip(variables, values, strict=False):
        variable.assign(value)


@contextmanager
def averaged(run: Run) -> Iterator[None]:
    """Lend the network its averaged weights, where there are any."""
    if not run.averages:
        yield
        return
    kept = values_of(run.weights)
    for variable, average in zip(run.weights, run.averages, strict=True):
        variable.assign(average)
    yield
    for variable, value in zip(run.weights, kept, strict=True):
        variable.assign(value)


def inference_batch(size: tuple[int, ...]) -> int:
    """How many images of this height and width are asked at once: so many values are in memory."""
    return max(1, min(INFERENCE_BATCH, INFERENCE_BATCH * 64 * 64 // (size[0] * size[1])))


def predict_logits(model: keras.Model, images: Images) -> NDArray[np.float32]:
    """Logits, float32 [N, labels], of uint8 [N, H, W, 3], without dropout."""
    size = inference_batch(images.shape[1:3])
    batches = [
        model(images[i : i + size].astype(np.float32), training=False).numpy()
        for i in range(0, len(images), size)
    ]
    return np.concatenate(batches)


def values_of(variables: list[keras.Variable]) -> tuple[NDArray[Any], ...]:
    return tuple(variable.numpy() for variable in variables)
