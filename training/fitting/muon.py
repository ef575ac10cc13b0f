"""Muon: Nesterov momentum with orthogonal steps (K. Jordan, 2024), for convolutions' filters."""

from __future__ import annotations

import math

import keras
from keras import ops

MOMENTUM = 0.6
STEPS = 4
ORTHOGONALISE = (3.4445, -4.7750, 2.0315)  # K. Jordan's coefficients of the Newton-Schulz step


class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]
    """For filters [k, k, C, F] that a batch norm follows.

    Every direction of a layer's step gets the same length, whatever the gradient says. The filters
    themselves are held at a norm of √F, as the batch norm does not see their length. Keras' own
    Muon hands everything that is no matrix to AdamW, filters among it.
    """

    def __init__(
        self, learning_rate: float, momentum: float = MOMENTUM, name: str = "muon"
    ) -> None:
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


def orthogonal(matrix: keras.KerasTensor, steps: int = STEPS) -> keras.KerasTensor:
    """About U Vᵀ of the matrix' decomposition U S Vᵀ: its singular values become 0.7 to 1.2."""
    a, b, c = ORTHOGONALISE
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(steps):
        gram = x @ ops.transpose(x)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return ops.transpose(x) if tall else x
