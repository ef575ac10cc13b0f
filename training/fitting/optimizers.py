"""Who moves which weights, and how fast: groups of variables, each with its optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from training.config import TrainConfig
from training.fitting.muon import Muon
from training.fitting.relative import RelativeAdam
from training.networks import backbone, efficientnet


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
    biases' rate. In a pretrained network filters move in proportion to themselves, and rates fall
    towards the image (`Recipe.depth_decay`).
    """
    variables = model.trainable_variables
    if config.network.is_pretrained:
        return _built(_by_depth(config, model))
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
    return _built(found)


def _by_depth(config: TrainConfig, model: keras.Model) -> list[Group]:
    """Groups of what is equally far from the answer, filters and all else apart.

    What is further from it than `Recipe.learned_blocks` is in none of them.
    """
    depth_of = backbone.depths(model).__getitem__ if config.backbone else efficientnet.depth_of
    depths: dict[int, list[keras.Variable]] = {}
    for variable in model.trainable_variables:
        depths.setdefault(depth_of(variable.path), []).append(variable)
    found = []
    for depth, these in depths.items():
        if depth >= config.recipe.learned_blocks:
            continue
        rate = config.learning_rate * config.recipe.depth_decay**depth
        filters = [v for v in these if len(v.shape) == 4]
        others = [v for v in these if len(v.shape) != 4]
        found.append(Group(RelativeAdam(rate), filters, rate))
        found.append(_adamw(others, rate * config.bias_rate, 0.0))
    return found


def _built(found: list[Group]) -> list[Group]:
    """Those that have variables, ready to move them."""
    found = [group for group in found if group.variables]
    for group in found:
        group.optimizer.build(group.variables)
    return found


def _adamw(variables: list[keras.Variable], rate: float, decay: float) -> Group:
    return Group(keras.optimizers.AdamW(rate, weight_decay=decay), variables, rate)
