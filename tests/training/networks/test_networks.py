import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from training.architectures import (
    ARCHITECTURES,
    Shape,
    branches_of,
    flops,
    parameters,
    patch,
    served,
    whitening_filters,
)


def build(name: str = "basic", size: tuple[int, int] = (32, 32), labels: int = 10) -> keras.Model:
    return ARCHITECTURES[name].build(shape(size=size, labels=labels), False)


def shape(**changes: Any) -> Shape:
    mean = np.array([120.0, 110.0, 100.0], np.float32)
    deviation = np.array([60.0, 50.0, 40.0], np.float32)
    return dataclasses.replace(Shape((32, 32), 10, 0.5, mean, deviation), **changes)


def test_basic_is_the_tutorials_network() -> None:
    model = build()

    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes == {
        "pixels": (32, 32, 3),
        "normalise": (32, 32, 3),
        "conv1_1": (30, 30, 32),
        "conv1_2": (28, 28, 32),
        "pool1": (14, 14, 32),
        "conv2_1": (12, 12, 64),
        "conv2_2": (10, 10, 64),
        "pool2": (5, 5, 64),
        "flatten": (1600,),
        "dense": (256,),
        "dropout": (256,),
        "logits": (10,),
    }
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.activation.__name__ for layer in convolutions} == {"relu"}
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert model.count_params() == 477_994


def test_pixels_are_normalised_by_channel() -> None:
    model = build()
    normalise = model.get_layer("normalise")

    pixels = np.broadcast_to(np.array([180.0, 110.0, 60.0], np.float32), (1, 32, 32, 3))

    np.testing.assert_allclose(normalise(pixels)[0, 0, 0], [1.0, 0.0, -1.0], atol=1e-5)


STAGED = [name for name, item in ARCHITECTURES.items() if item.any_size]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 48), "smallest"])
def test_every_network_takes_other_sizes(name: str, size: tuple[int, int] | str) -> None:
    smallest = ARCHITECTURES[name].smallest_side
    sides = (smallest, smallest) if isinstance(size, str) else size
    model = build(name, sides, labels=4)

    logits = model(np.zeros((2, *sides, 3), np.float32))

    assert logits.shape == (2, 4)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", ["basic", "small"])  # the staged ones share their builder
def test_the_smallest_side_is_the_smallest(name: str) -> None:
    side = ARCHITECTURES[name].smallest_side - 1

    too_small = shape(size=(side, side))

    with pytest.raises(ValueError, match=r"[Nn]egative|invalid|shape"):
        ARCHITECTURES[name].build(too_small, True)


def with_figures(model: keras.Model) -> keras.Model:
    """The model with batch norms that have seen something."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif "moving_mean" in weight.path or weight.path.endswith(("beta", "bias")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize(("depth", "branches"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)])
def test_the_served_network_is_the_trained_one_without_norms(
    activation: str, depth: int, branches: int
) -> None:
    asked = shape(width=0.25, depth=depth, branches=branches, activation=activation)
    model = with_figures(ARCHITECTURES["small"].build(asked, False))
    images = np.random.default_rng(1).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)

    lean = served(model, ARCHITECTURES["small"], asked)

    np.testing.assert_allclose(lean(images), model(images, training=False), atol=1e-5)
    assert np.ptp(lean(images)) > 0.1
    kinds = {type(layer).__name__ for layer in lean.layers}
    assert "BatchNormalization" not in kinds
    assert lean.input_shape == (None, 32, 32, 3)


def test_branches_answer_with_their_mean() -> None:
    asked = shape(width=0.1, branches=3)
    model = ARCHITECTURES["small"].build(asked, False)
    images = np.random.default_rng(1).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)

    answers = np.array(branches_of(model)(images, False))

    assert answers.shape == (3, 8, 10)
    assert np.abs(answers[1:] - answers[0]).max() > 0.1
    np.testing.assert_allclose(model(images, training=False), answers.mean(axis=0), atol=1e-5)
    assert [layer.name for layer in model.layers].count("whiten") == 1
    one = ARCHITECTURES["small"].build(shape(width=0.1), False)
    first = ("whiten", "conv1", "norm1")
    shared = sum(layer.count_params() for layer in one.layers if layer.name.startswith(first))
    assert model.count_params() - shared == 3 * (one.count_params() - shared)


def test_a_trained_network_takes_smaller_images_too() -> None:
    model = build("small")

    assert model(np.zeros((1, 24, 20, 3), np.float32)).shape == (1, 10)


@pytest.mark.parametrize("depth", range(1, 9))
def test_the_smallest_side_leaves_something(depth: int) -> None:
    for name, architecture in ARCHITECTURES.items():
        side = architecture.smallest_for((32, 32), depth)
        asked = shape(size=(side, side), depth=depth, width=0.1)
        assert architecture.build(asked, False).output_shape[-1] == asked.labels
        if name == "basic" and depth > 1:
            with pytest.raises(ValueError, match=r"negative|Computed output size"):
                architecture.build(shape(size=(side - 1, side - 1), depth=depth, width=0.1), False)


@pytest.mark.parametrize("longer", [32, 64, 128, 160, 512])
def test_the_smallest_side_is_of_the_size_that_the_network_is_built_for(longer: int) -> None:
    """The longer side decides how large the first layer's patches are."""
    small = ARCHITECTURES["small"]
    smallest = small.smallest_for((9, longer), 0)

    asked = shape(size=(smallest, longer), width=0.1)
    assert small.build(asked, True).output_shape[-1] == asked.labels
    with pytest.raises(ValueError, match=r"[Nn]egative|invalid|shape"):
        small.build(shape(size=(smallest - 1, longer), width=0.1), True)


@pytest.mark.parametrize("side", [32, 64, 128, 160])
def test_the_smallest_side_is_that_of_images_that_grow_too(side: int) -> None:
    small = ARCHITECTURES["small"]
    smallest = small.smallest_for((side, side), 0)
    model = small.build(shape(size=(side, side), width=0.1), False)

    assert np.isfinite(model(np.zeros((1, smallest, smallest, 3), np.float32))).all()


def test_width_and_depth_are_options() -> None:
    plain, wide, deep = (
        ARCHITECTURES["small"].build(shape(width=width, depth=depth), True)
        for width, depth in ((1, 0), (2, 0), (1, 3))
    )

    assert [layer.filters for layer in wide.layers if layer.name.startswith("conv")] == [
        2 * layer.filters for layer in plain.layers if layer.name.startswith("conv")
    ]
    added = {layer.name for layer in deep.layers} - {layer.name for layer in plain.layers}
    assert {name for name in added if name.startswith("conv")} == {"conv1_3", "conv2_3", "conv3_3"}
    assert {name for name in added if name.startswith("add")} == {"add1_3", "add2_3", "add3_3"}


@pytest.mark.parametrize("side", [32, 64, 128, 224])
def test_larger_images_do_not_cost_by_their_area(side: int) -> None:
    small = ARCHITECTURES["small"]
    at_32 = flops(small.build(shape(), True), (32, 32))

    cost = flops(small.build(shape(size=(side, side)), True), (side, side))

    assert 0.9 * at_32 <= cost <= 5 * at_32


def test_flops_are_those_of_a_count_by_hand() -> None:
    model = build()  # 30, 28, 12 and 10 places; 3, 32, 32 and 64 channels in

    assert flops(model, (32, 32)) == 2 * (
        9 * (900 * 3 * 32 + 784 * 32 * 32 + 144 * 32 * 64 + 100 * 64 * 64) + 1600 * 256 + 256 * 10
    )


def test_parameters_are_those_that_are_served() -> None:
    lean = ARCHITECTURES["small"].build(shape(), True)

    assert parameters(lean) == sum(w.size for w in lean.get_weights())


def test_whitened_patches_are_uncorrelated_and_of_equal_variance() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(200, 9, 9, 1)).cumsum(axis=1).cumsum(axis=2)
    images = (128 + 10 * smooth + rng.normal(0, 9, (200, 9, 9, 3))).clip(0, 255).astype(np.uint8)
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    filters = whitening_filters(images, mean, deviation, epsilon=1e-9)

    assert filters.shape == (2, 2, 3, 24)
    normalised = ((images - mean) / deviation).astype(np.float32)
    answers = np.asarray(keras.ops.conv(normalised, filters)).reshape(-1, 24)
    moments = answers.T @ answers / len(answers)
    np.testing.assert_allclose(moments[:12, :12], np.eye(12), atol=0.02)
    np.testing.assert_allclose(answers[:, 12:], -answers[:, :12], atol=1e-4)


def test_epsilon_keeps_noise_from_being_blown_up() -> None:
    images = np.full((50, 8, 8, 3), 100, np.uint8)
    images[:, ::2] = 150
    mean, deviation = np.full(3, 125.0, np.float32), np.full(3, 25.0, np.float32)

    filters = whitening_filters(images, mean, deviation, epsilon=0.01)

    assert np.abs(filters).max() <= 10  # 1 / sqrt(0.01)


@pytest.mark.parametrize(("side", "expected"), [(32, (2, 1)), (64, (4, 2)), (224, (8, 4))])
def test_patches_grow_with_the_image(side: int, expected: tuple[int, int]) -> None:
    assert patch((side, side)) == expected


@pytest.mark.parametrize("name", STAGED)
def test_the_whitening_is_frozen_and_its_bias_learns(name: str) -> None:
    trained = {weight.path for weight in build(name).trainable_variables}

    assert "whiten/kernel" not in trained
    assert "whiten/bias" in trained
