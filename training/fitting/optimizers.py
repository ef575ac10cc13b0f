"""Who moves which weights, and how fast: groups of variables, each with its optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from keras import ops

from training.config import TrainConfig

MUON_STEPS = 4
ORTHOGONALISE = (3.4445, -4.7750, 2.0315)  # K. Jordan's coefficients of the Newton-Schulz step


@dataclass(frozen=True)
class Group:
    """Variables that one optimiser moves; `peak` is its highest learning rate."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    peak: float


def groups(config: TrainConfig, model: keras.Model) -> list[Group]:
    """Weights and biases apart: biases (batch norms' offsets, too) have a rate of their own.

    They never decay. Muon moves the convolutions' filters; what is no filter is left to AdamW.
    """
    variables = model.trainable_variables
    biases = [v for v in variables if len(v.shape) < 2]
    weights = [v for v in variables if len(v.shape) >= 2]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "muon":
        filters = [v for v in weights if len(v.shape) == 4]
        rest = [v for v in weights if len(v.shape) != 4]
        parts = [
            Group(Muon(rate, momentum=config.momentum), filters, rate),
            Group(keras.optimizers.AdamW(rate, weight_decay=decay), rest, rate * config.bias_rate),
            Group(keras.optimizers.AdamW(rate, weight_decay=0.0), biases, rate * config.bias_rate),
        ]
    else:
        parts = [
            Group(_plain(config, decay), weights, rate),
            Group(_plain(config, 0.0), biases, rate * config.bias_rate),
        ]
    found = [part for part in parts if part.variables]
    for part in found:
        part.optimizer.build(part.variables)
    return found


def _plain(config: TrainConfig, decay: float) -> keras.optimizers.Optimizer:
    rate = config.learning_rate
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(
            rate, momentum=config.momentum, nesterov=True, weight_decay=decay or None
        )
    if config.optimizer == "lion":
        return keras.optimizers.Lion(rate, weight_decay=decay or None)
    return keras.optimizers.AdamW(rate, weight_decay=decay)


class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Nesterov momentum with orthogonal steps (K. Jordan, 2024), for filters [k, k, C, F].

    Every direction of a layer's step gets the same length, whatever the gradient says. The filters
    themselves are held at a norm of √F, as a batch norm follows that does not see their length.
    Keras' own Muon hands everything that is no matrix to AdamW, filters among it.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.6, name: str = "muon") -> None:
        super().__init__(learning_rate, name=name)
        self.momentum = momentum
        self.velocities: list[keras.Variable] = []

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the momenta."""
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "momentum")

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: float
    ) -> None:
        """Move one variable."""
        velocity = self.velocities[self._get_variable_index(variable)]
        moved = velocity * self.momentum + gradient
        self.assign(velocity, moved)
        step = orthogonal(ops.reshape(gradient + self.momentum * moved, (-1, gradient.shape[-1])))
        step = ops.reshape(step, gradient.shape)
        length = math.sqrt(gradient.shape[-1])
        held = variable * (length / (ops.sqrt(ops.sum(ops.square(variable))) + 1e-7))
        self.assign(variable, held - step * ops.cast(learning_rate, variable.dtype))


def orthogonal(matrix: keras.KerasTensor, steps: int = MUON_STEPS) -> keras.KerasTensor:
    """About U Vᵀ of the matrix' decomposition U S Vᵀ: its singular values become 0.7 to 1.2."""
    a, b, c = ORTHOGONALISE
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(steps):
        gram = x @ ops.transpose(x)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return ops.transpose(x) if tall else x
