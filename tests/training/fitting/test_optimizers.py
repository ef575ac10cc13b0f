import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.architectures import ARCHITECTURES, Shape
from training.config import TrainConfig
from training.optimizers import groups, orthogonal


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    grey = np.full(3, 100, np.float32)
    return ARCHITECTURES["small"].build(Shape((16, 16), 3, 0.0, grey, grey, width=0.1), False)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "muon"])
def test_every_weight_that_learns_is_moved_once(model: keras.Model, optimizer: str) -> None:
    config = TrainConfig(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)

    found = groups(config, model)

    moved = [variable.path for group in found for variable in group.variables]
    assert sorted(moved) == sorted(variable.path for variable in model.trainable_variables)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    for group in found:
        gradients = [tf.random.stateless_normal(v.shape, [0, 1]) for v in group.variables]
        group.optimizer.apply(gradients, group.variables)
    assert all(not np.array_equal(before[v.path], v.numpy()) for v in model.trainable_variables)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion", "muon"])
def test_biases_have_their_own_rate_and_do_not_decay(model: keras.Model, optimizer: str) -> None:
    config = TrainConfig(optimizer=optimizer, learning_rate=0.1, bias_rate=0.5, weight_decay=0.1)

    found = groups(config, model)

    biases = [group for group in found if {len(v.shape) for v in group.variables} == {1}]
    assert [group.peak for group in biases] == [0.05]
    assert not biases[0].optimizer.weight_decay
    assert found[0].peak == 0.1


def test_muons_steps_are_orthogonal() -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)

    for asked in (matrix, matrix.T):
        singular = np.linalg.svd(np.asarray(orthogonal(asked)), compute_uv=False)
        assert 0.6 < singular.min() <= singular.max() < 1.3
    directions = np.asarray(orthogonal(matrix, steps=8))
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    assert np.abs(directions - u @ v).max() < 0.25


def test_muon_holds_filters_at_their_length(model: keras.Model) -> None:
    config = dataclasses.replace(TrainConfig(), optimizer="muon", learning_rate=1e-4)
    group = groups(config, model)[0]
    assert {len(v.shape) for v in group.variables} == {4}

    group.optimizer.apply([tf.ones(v.shape) for v in group.variables], group.variables)

    for variable in group.variables:
        assert np.linalg.norm(variable.numpy()) == pytest.approx(
            np.sqrt(variable.shape[-1]), rel=0.01
        )


def test_muon_goes_downhill() -> None:
    target = np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype(np.float32)
    target *= 4 / np.linalg.norm(target)
    variable = keras.Variable(np.random.default_rng(1).normal(size=target.shape))
    model = keras.Sequential([keras.Input((8, 8, 8)), keras.layers.Conv2D(16, 3, use_bias=False)])
    group = groups(TrainConfig(optimizer="muon", learning_rate=0.05), model)[0]
    (variable,) = group.variables

    for _ in range(100):
        group.optimizer.apply([variable.value - target], group.variables)

    assert np.linalg.norm(variable.numpy() - target) < 1
