"""Networks of every architecture: as they are trained, and as they are served."""

from typing import Any

import keras
import numpy as np
import pytest

from training.architectures import ARCHITECTURES, KERAS
from training.config import from_options
from training.networks.branches import answers_of
from training.networks.building import served_network, untrained_network
from training.networks.cost import flops, parameters
from training.networks.dimensions import PixelStatistics

STATISTICS = PixelStatistics(
    np.array([120.0, 110.0, 100.0], np.float32), np.array([60.0, 50.0, 40.0], np.float32)
)
STAGED = [name for name, item in ARCHITECTURES.items() if item.is_staged]


def build(
    name: str = "basic", size: tuple[int, int] = (32, 32), labels: int = 10, **options: Any
) -> keras.Model:
    config = from_options({"architecture": name, "image_size": size, **options})
    return untrained_network(config, labels, STATISTICS)


def as_served(model: keras.Model, **options: Any) -> keras.Model:
    size = model.input_shape[1:3]
    config = from_options({"architecture": model.name, "image_size": size, **options})
    return served_network(model, config)


def noise(count: int = 8) -> Any:
    return np.random.default_rng(1).uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)


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


@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - {KERAS}))  # see test_backbone
@pytest.mark.parametrize("size", [(96, 64), "smallest"])
def test_every_network_takes_other_sizes(name: str, size: tuple[int, int] | str) -> None:
    smallest = ARCHITECTURES[name].smallest_side
    sides = (smallest, smallest) if isinstance(size, str) else size
    model = build(name, sides, labels=4, shift=0)

    logits = model(np.zeros((2, *sides, 3), np.float32))

    assert logits.shape == (2, 4)
    assert np.isfinite(logits).all()


def with_figures(model: keras.Model) -> keras.Model:
    """The model with batch norms that have seen something."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif "moving_mean" in weight.path or weight.path.endswith(("beta", "bias")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize(("name", "branches"), [("small", 1), ("deep", 1), ("small", 3)])
def test_the_served_network_is_the_trained_one_without_norms(name: str, branches: int) -> None:
    model = with_figures(build(name, width=0.25, branches=branches))

    lean = as_served(model, width=0.25, branches=branches)

    np.testing.assert_allclose(lean(noise()), model(noise(), training=False), atol=1e-5)
    assert np.ptp(lean(noise())) > 0.1
    kinds = {type(layer).__name__ for layer in lean.layers}
    assert not kinds & {"BatchNormalization", "Rescaling", "Average", "Dropout"}
    assert lean.input_shape == (None, 32, 32, 3)


def test_the_tutorials_network_is_served_as_it_was_trained() -> None:
    model = with_figures(build())

    lean = as_served(model)

    expected = model(noise(), training=False)
    np.testing.assert_allclose(lean(noise()), expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 0.1
    assert "Rescaling" not in {type(layer).__name__ for layer in lean.layers}


def test_branches_answer_with_their_mean() -> None:
    model = build("small", width=0.1, branches=3)

    answers = np.array(answers_of(model)(noise(), training=False))

    assert answers.shape == (3, 8, 10)
    assert np.abs(answers[1:] - answers[0]).max() > 0.1
    np.testing.assert_allclose(model(noise(), training=False), answers.mean(axis=0), atol=1e-5)
    assert [layer.name for layer in model.layers].count("whiten") == 1
    one = build("small", width=0.1)
    first = ("whiten", "conv1", "norm1")
    shared = sum(layer.count_params() for layer in one.layers if layer.name.startswith(first))
    assert model.count_params() - shared == 3 * (one.count_params() - shared)


def test_width_is_an_option() -> None:
    plain, wide = (build("small", width=width) for width in (1, 2))

    assert [layer.filters for layer in wide.layers if layer.name.startswith("conv")] == [
        2 * layer.filters for layer in plain.layers if layer.name.startswith("conv")
    ]


def test_a_deep_stage_adds_its_input() -> None:
    added = {layer.name for layer in build("deep", width=0.1).layers if "add" in layer.name}

    assert added == {"add1_3", "add2_3", "add3_3"}


@pytest.mark.parametrize("side", [64, 128, 224])
def test_larger_images_do_not_cost_by_their_area(side: int) -> None:
    at_32, cost = (flops(build("small", size)) for size in ((32, 32), (side, side)))

    assert 0.9 * at_32 <= cost <= 5 * at_32


def test_flops_are_those_of_a_count_by_hand() -> None:
    # 30, 28, 12 and 10 places; 3, 32, 32 and 64 channels in
    assert flops(build()) == 2 * (
        9 * (900 * 3 * 32 + 784 * 32 * 32 + 144 * 32 * 64 + 100 * 64 * 64) + 1600 * 256 + 256 * 10
    )


def test_parameters_are_those_that_are_served() -> None:
    lean = as_served(build("small"))

    assert parameters(lean) == sum(weight.size for weight in lean.get_weights())


@pytest.mark.parametrize("name", STAGED)
def test_the_whitening_is_frozen_and_its_bias_learns(name: str) -> None:
    trained = {weight.path for weight in build(name).trainable_variables}

    assert "whiten/kernel" not in trained
    assert "whiten/bias" in trained
