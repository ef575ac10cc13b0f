import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import TrainConfig
from training.fitting.optimizers import groups
from training.networks.building import untrained_network


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return untrained_network(TrainConfig(architecture="small", width=0.1), labels=3)


@pytest.mark.parametrize("architecture", ["basic", "small"])
def test_every_weight_that_learns_is_moved_once(model: keras.Model, architecture: str) -> None:
    config = TrainConfig(architecture=architecture, learning_rate=0.01)

    found = groups(config, model)

    moved = [variable.path for group in found for variable in group.variables]
    assert sorted(moved) == sorted(variable.path for variable in model.trainable_variables)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    for group in found:
        gradients = [tf.random.stateless_normal(v.shape, [0, 1]) for v in group.variables]
        group.optimizer.apply(gradients, group.variables)
    assert all(not np.array_equal(before[v.path], v.numpy()) for v in model.trainable_variables)


@pytest.mark.parametrize("architecture", ["basic", "small"])
def test_biases_have_their_own_rate_and_do_not_decay(model: keras.Model, architecture: str) -> None:
    config = TrainConfig(architecture=architecture, learning_rate=0.1, bias_rate=0.5)

    found = groups(config, model)

    biases = [group for group in found if {len(v.shape) for v in group.variables} == {1}]
    assert [group.peak for group in biases] == [0.05]
    assert not biases[0].optimizer.weight_decay
    assert found[0].peak == 0.1
