"""A run in memory: network and optimisers, before the first step or at a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.batches import steps_of
from training.data.dataset import Dataset
from training.fitting.checkpoint import Checkpoint
from training.fitting.optimizers import Group, groups
from training.networks.building import initial_network


@dataclass(frozen=True)
class TrainingState:
    """What is being optimised, and what it is optimised on."""

    config: TrainConfig
    dataset: Dataset
    model: keras.Model
    groups: list[Group]

    @property
    def steps(self) -> int:
        """Steps in an epoch of all images."""
        return steps_of(len(self.dataset.train), self.config.batch_size)

    @property
    def weights(self) -> list[keras.Variable]:
        """All that the network's answers depend on: batch norms' figures too, no generators."""
        return self.model.weights  # type: ignore[no-any-return]

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that training changes, random generators' states included."""
        optimizers = [v for group in self.groups for v in group.optimizer.variables]
        return [*self.model.variables, *optimizers]


def start_devices() -> None:
    """Let TensorFlow look for its devices now, and make its sums repeatable."""
    # Sums that threads share are otherwise added up in whatever order they finish.
    tf.config.experimental.enable_op_determinism()
    tf.config.list_logical_devices()


def start(config: TrainConfig, dataset: Dataset) -> TrainingState:
    """A network with its first weights, and its optimisers."""
    keras.utils.set_random_seed(config.seed)
    start_devices()
    model = initial_network(config, dataset.train.images, len(dataset.labels))
    return TrainingState(config, dataset, model, groups(config, model))


def restore(state: TrainingState, saved: Checkpoint) -> None:
    """Put the run where the checkpoint was."""
    assign(zip(state.variables, saved.variables, strict=True))


def start_from(state: TrainingState, saved: Checkpoint) -> None:
    """Give the network the weights that another run has come to, and nothing else of it."""
    # The optimisers' variables come after the network's, and are not taken.
    assign(zip(state.model.variables, saved.variables, strict=False))
    take_best(state, saved)


def take_best(state: TrainingState, saved: Checkpoint) -> None:
    """Give the network the best weights, where the run has kept any."""
    if saved.best:
        assign(zip(state.weights, saved.best, strict=True))


def assign(pairs: Iterable[tuple[keras.Variable, NDArray[Any]]]) -> None:
    """Set each variable to its value."""
    for variable, value in pairs:
        variable.assign(value)


def values_of(variables: list[keras.Variable]) -> tuple[NDArray[np.generic], ...]:
    """Copies of what the variables hold."""
    return tuple(variable.numpy() for variable in variables)
