import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.training.conftest import in_memory, moved_by_gradients
from training.architectures import ARCHITECTURES
from training.config import TrainConfig
from training.data.batches import Batch
from training.data.dataset import Dataset
from training.data.loading import load
from training.data.pixels import Images
from training.fitting.distillation import load_teachers
from training.fitting.loop import fit
from training.fitting.state import start
from training.fitting.step import training_step
from training.networks.inference import predict_logits
from training.networks.mirrored import mirrors, partners, with_mirror_images
from training.networks.whitening import filters_of, patch_moments

SIDE = 33  # 32 places behind the first layer: no pool leaves a pixel out


@pytest.fixture
def config(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        config, architecture="small", image_size=(SIDE, SIDE), width=0.25, mirrored_filters=True
    )


@pytest.fixture
def dataset(config: TrainConfig) -> Dataset:
    return in_memory(load(config))


def difference_by_mirroring(model: keras.Model, images: Images) -> float:
    """The largest of the logits."""
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    return float(np.abs(predict_logits(model, images) - predict_logits(model, mirrored)).max())


def test_an_image_and_its_mirror_image_get_the_same_answer(
    config: TrainConfig, dataset: Dataset
) -> None:
    config = dataclasses.replace(config, learning_rate=0.1, bias_rate=0.1)
    usual = start(dataclasses.replace(config, mirrored_filters=False), dataset).model

    trained = fit(config, dataset)

    assert difference_by_mirroring(trained, dataset.test.images) < 1e-3
    assert difference_by_mirroring(usual, dataset.test.images) > 1e-2


@pytest.mark.parametrize("name", [name for name, item in ARCHITECTURES.items() if item.is_staged])
def test_every_weight_has_its_mirror_image(
    config: TrainConfig, dataset: Dataset, name: str
) -> None:
    model = start(dataclasses.replace(config, architecture=name, width=0.1), dataset).model

    found = mirrors(model)

    assert sorted(v.path for v, _ in found) == sorted(v.path for v in model.weights)
    for variable, mirror in found:
        value = variable.numpy()
        np.testing.assert_allclose(mirror(value), value, atol=1e-6)
        np.testing.assert_array_equal(mirror(mirror(value)), value)


def step_of(config: TrainConfig, dataset: Dataset, *, mirrored: bool) -> NDArray[np.float32]:
    """How the first step, of eight images, moves all weights."""
    run, images = moved_by_gradients(start(config, dataset)), dataset.train.images[:8]
    before = [variable.numpy() for variable in run.model.trainable_variables]
    batch = Batch(images, np.arange(8) % 3, np.full(8, mirrored), np.ones(8, np.float32))
    rates = np.array([group.peak for group in run.groups], np.float32)
    training_step(run, load_teachers(config))(batch, np.zeros(2, np.int32), rates)
    after = [variable.numpy() for variable in run.model.trainable_variables]
    return np.concatenate([(a - b).ravel() for a, b in zip(after, before, strict=True)])


@pytest.mark.parametrize("paired", [True, False])
def test_a_step_learns_from_the_mirror_images_too(
    config: TrainConfig, dataset: Dataset, paired: bool
) -> None:
    config = dataclasses.replace(config, shift=0, mirrored_filters=paired)

    step = step_of(config, dataset, mirrored=False)
    mirrored = step_of(config, dataset, mirrored=True)

    difference = np.linalg.norm(step - mirrored) / np.linalg.norm(step)
    assert difference < 0.01 if paired else difference > 0.1


@pytest.mark.parametrize("grey", [False, True])
def test_whitening_filters_come_with_their_mirror_images(grey: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(128, 40, (50, 9, 12, 1 if grey else 3)).cumsum(axis=2) / 4
    images = np.broadcast_to(values.clip(0, 255), (50, 9, 12, 3)).astype(np.uint8)
    mean, deviation = np.full(3, 128, np.float32), np.full(3, 60, np.float32)
    moments = patch_moments(images, mean, deviation)

    filters = filters_of(with_mirror_images(moments), noise=1e-8)

    partner = partners(filters)
    np.testing.assert_array_equal(partner[partner], np.arange(len(partner)))
    np.testing.assert_allclose(filters[:, ::-1][..., partner], filters, rtol=1e-3, atol=1e-3)
    plain = filters_of(moments, noise=1e-8)
    assert grey or np.abs(plain[:, ::-1][..., partners(plain)] - plain).max() > 0.01


@pytest.mark.parametrize("branches", [1, 2])
def test_mirrored_is_what_the_network_makes_of_a_mirrored_image(
    config: TrainConfig, dataset: Dataset, branches: int
) -> None:
    config = dataclasses.replace(config, branches=branches)
    model = start(dataclasses.replace(config, mirrored_filters=False), dataset).model
    symmetric = start(config, dataset).model
    for source, target in zip(model.weights, symmetric.weights, strict=True):
        if "whiten/kernel" not in source.path:
            target.assign(source)
    images = tf.constant(dataset.test.images, tf.float32)
    answers = symmetric(images, training=False)

    for variable, mirror in mirrors(symmetric):
        variable.assign(mirror(variable.value))

    np.testing.assert_allclose(symmetric(images[:, :, ::-1], training=False), answers, atol=1e-4)
