"""The pretrained network says what an independent pass in numpy says, and what one would expect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.images import photograph
from training.architectures import ARCHITECTURES
from training.networks import efficientnet, pretrained
from training.networks.dimensions import Dimensions
from training.networks.layers import ServedLayers, TrainedLayers

LABELS = 1000
Floats = NDArray[Any]


@pytest.fixture(scope="module")
def source() -> pretrained.Tensors:
    """The package's tensors."""
    return pretrained.tensors()


def network(source: pretrained.Tensors, size: tuple[int, int]) -> Any:
    """With ImageNet's last layer, for images of this size."""
    architecture = ARCHITECTURES["efficientnet-lite0"]
    layers = TrainedLayers(pretrained.PIXELS, 0.0)
    model = efficientnet.build(architecture, Dimensions(size, LABELS), layers)
    pretrained.load_into(model, source)
    model.get_layer("logits").set_weights([source["_fc.weight"].T, source["_fc.bias"]])
    return model


def numpy_logits(source: pretrained.Tensors, pixels: Floats) -> Floats:
    """The same from the paper and the original names: float64 [N, 1000] of [N, H, W, 3]."""

    def norm(x: Floats, name: str) -> Floats:
        scale, offset, mean, variance = (
            source[f"{name}.{part}"].astype(float)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        answer: Floats = (x - mean) / np.sqrt(variance + 1e-3) * scale + offset
        return answer

    def convolve(x: Floats, name: str, stride: int) -> Floats:
        weight = source[f"{name}.weight"].astype(float)
        side = weight.shape[2]
        totals = [max((-(-n // stride) - 1) * stride + side - n, 0) for n in x.shape[1:3]]
        padding = [(total // 2, total - total // 2) for total in totals]  # TensorFlow's "same"
        views = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, [(0, 0), *padding, (0, 0)]), (side, side), axis=(1, 2)
        )[:, ::stride, ::stride]
        if weight.shape[1] == 1:
            weight, product = weight[:, 0], "nhwcij,cij->nhwc"
        else:
            product = "nhwcij,ocij->nhwo"
        answer: Floats = np.einsum(product, views, weight, optimize=True)
        return answer

    def rectified(x: Floats) -> Floats:
        return np.clip(x, 0, 6)

    x = rectified(norm(convolve((pixels - 127.0) / 128.0, "_conv_stem", 2), "_bn0"))
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
    for number, stride in enumerate(strides):
        name, before = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in source:
            x = rectified(norm(convolve(x, f"{name}._expand_conv", 1), f"{name}._bn0"))
        x = rectified(norm(convolve(x, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        x = norm(convolve(x, f"{name}._project_conv", 1), f"{name}._bn2")
        if stride == 1 and x.shape == before.shape:
            x = x + before
    features = rectified(norm(convolve(x, "_conv_head", 1), "_bn1")).mean(axis=(1, 2))
    answers: Floats = features @ source["_fc.weight"].T.astype(float) + source["_fc.bias"]
    return answers


@pytest.mark.parametrize("size", [(64, 64), (97, 128), (224, 224)])
def test_its_logits_are_those_of_a_pass_in_numpy(
    source: pretrained.Tensors, size: tuple[int, int]
) -> None:
    pixels = np.stack(
        [np.asarray(photograph(seed, *size).convert("RGB"), np.float32) for seed in (1, 2)]
    )
    expected = numpy_logits(source, pixels.astype(float))
    trained = network(source, size)
    served = efficientnet.build(
        ARCHITECTURES["efficientnet-lite0"], Dimensions(size, LABELS), ServedLayers(trained)
    )
    for model in (trained, served):
        assert np.abs(model(pixels, training=False).numpy() - expected).max() < 1e-3


def test_small_images_are_enlarged_inside(source: pretrained.Tensors) -> None:
    small, large = network(source, (32, 40)), network(source, (96, 120))
    pixels = np.asarray(photograph(1, 32, 40).convert("RGB"), np.float32)[None]

    enlarged = tf.image.resize(pixels, (96, 120), "bilinear")

    expected = large(enlarged, training=False).numpy()
    np.testing.assert_allclose(small(pixels, training=False).numpy(), expected, atol=1e-3)


def test_the_published_network_is_that_of_the_numpy_pass(source: pretrained.Tensors) -> None:
    pixels = np.asarray(photograph(1, 64, 64).convert("RGB"), np.float32)[None]

    found = pretrained.imagenet_network((64, 64))(pixels, training=False).numpy()

    assert np.abs(found - numpy_logits(source, pixels.astype(float))).max() < 1e-3
