"""Who moves which weights, and how fast: groups of variables, each with its optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from training.config import TrainConfig
from training.fitting.muon import Muon


@dataclass(frozen=True)
class Group:
    """Variables that one optimiser moves; `peak` is its highest learning rate."""

    optimizer: keras.optimizers.Optimizer
    variables: list[keras.Variable]
    peak: float


def groups(config: TrainConfig, model: keras.Model) -> list[Group]:
    """The trainable variables, each in one group, by the architecture's recipe.

    Biases (batch norms' offsets, too) have a rate of their own and never decay. Where the recipe
    says Muon, it moves the convolutions' filters; what is no filter is left to AdamW, at the
    biases' rate.
    """
    variables = model.trainable_variables
    biases = [v for v in variables if len(v.shape) < 2]
    filters = [v for v in variables if len(v.shape) == 4]
    dense = [v for v in variables if len(v.shape) in (2, 3)]
    rate, decay = config.learning_rate, config.recipe.weight_decay
    slower = rate * config.bias_rate
    if config.recipe.optimizer == "muon":
        found = [Group(Muon(rate), filters, rate), _adamw(dense, slower, decay)]
    else:
        weights = [v for v in variables if len(v.shape) >= 2]
        found = [_adamw(weights, rate, decay)]
    found.append(_adamw(biases, slower, 0.0))
    found = [group for group in found if group.variables]
    for group in found:
        group.optimizer.build(group.variables)
    return found


def _adamw(variables: list[keras.Variable], rate: float, decay: float) -> Group:
    return Group(keras.optimizers.AdamW(rate, weight_decay=decay), variables, rate)
