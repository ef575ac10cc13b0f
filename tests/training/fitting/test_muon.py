import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import TrainConfig
from training.fitting.muon import orthogonal
from training.fitting.optimizers import groups
from training.networks.building import untrained_network


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return untrained_network(TrainConfig(architecture="small", width=0.1), labels=3)


def test_muons_steps_are_orthogonal() -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)

    for asked in (matrix, matrix.T):
        singular = np.linalg.svd(np.asarray(orthogonal(asked)), compute_uv=False)
        assert 0.6 < singular.min() <= singular.max() < 1.3
    directions = np.asarray(orthogonal(matrix, steps=8))
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    assert np.abs(directions - u @ v).max() < 0.25


def test_muon_holds_filters_at_their_length(model: keras.Model) -> None:
    config = TrainConfig(architecture="small", learning_rate=1e-4)
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
    group = groups(TrainConfig(architecture="small", learning_rate=0.05), model)[0]
    (variable,) = group.variables

    for _ in range(100):
        group.optimizer.apply([variable.value - target], group.variables)

    assert np.linalg.norm(variable.numpy() - target) < 1
