import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.training.conftest import moved_by_gradients
from training.config import TrainConfig
from training.data.batches import Batch
from training.data.loading import load
from training.fitting.distillation import load_teachers
from training.fitting.state import start
from training.fitting.step import loss_of, multiplying_in, training_step

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], np.float32))
TARGETS = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def losses(**options: Any) -> list[float]:
    config = dataclasses.replace(TrainConfig(), **options)
    found: list[float] = loss_of(config, tf.constant(TARGETS), tf.constant(LOGITS)).numpy().tolist()
    return found


def test_cross_entropy_is_the_logarithm_of_the_right_probability() -> None:
    assert losses() == pytest.approx([-np.log(0.7), -np.log(0.25)], rel=1e-5)


def test_squared_error_is_that_of_the_probabilities() -> None:
    expected = [0.3**2 + 0.2**2 + 0.1**2, 0.25**2 + 0.75**2 + 0.5**2]

    assert losses(loss="squared-error") == pytest.approx(expected, rel=1e-5)


def test_bfloat16_is_lent_to_all_convolutions_but_the_first(config: TrainConfig) -> None:
    config = dataclasses.replace(config, architecture="small", width=0.1, shift=0)
    dataset = load(config)
    model, pixels = start(config, dataset).model, np.asarray(dataset.train.images, np.float32)
    before = model(pixels, training=False).numpy()

    with multiplying_in("bfloat16", model):
        within = model(pixels, training=False).numpy()
        computed = {layer.name: layer.compute_dtype for layer in model.layers}
        kept = {weight.dtype for weight in model.weights}

    coarse = {name for name, dtype in computed.items() if dtype == "bfloat16"}
    assert coarse == {name for name in computed if name.startswith("conv")}
    assert kept == {"float32"}
    assert 0 < np.abs(within - before).max() < 0.05 * np.abs(before).max()
    assert np.array_equal(model(pixels, training=False), before)


def test_precision_is_given_back_where_the_block_fails(config: TrainConfig) -> None:
    config = dataclasses.replace(config, architecture="small", width=0.1)
    model = start(config, load(config)).model

    with pytest.raises(ZeroDivisionError), multiplying_in("bfloat16", model):
        raise ZeroDivisionError

    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_a_branch_learns_as_it_would_alone(config: TrainConfig) -> None:
    alone = dataclasses.replace(config, architecture="small", width=0.1, shift=0)
    beside = dataclasses.replace(alone, branches=2)
    dataset = load(config)
    targets = dataset.train.targets
    batch = Batch(
        dataset.train.images[:],
        targets,
        np.zeros(len(targets), bool),
        np.ones(len(targets), np.float32),
    )
    runs = [moved_by_gradients(start(each, dataset)) for each in (alone, beside)]
    names = [weight.path for weight in runs[0].weights]
    twins = [weight for weight in runs[1].weights if weight.path in names]
    assert [weight.path for weight in twins] == names
    for source, target in zip(runs[0].weights, twins, strict=True):
        target.assign(source)

    for run in runs:
        step = training_step(run, load_teachers(run.config))
        rates = np.full(len(run.groups), 0.1, np.float32)
        step(batch, np.zeros(2, np.int32), rates)

    for one, twin in zip(runs[0].weights, twins, strict=True):
        if not one.path.startswith(("whiten", "conv1", "norm1")):  # which both branches teach
            np.testing.assert_allclose(twin, one, rtol=1e-4, atol=1e-5, err_msg=one.path)
