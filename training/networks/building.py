"""A configuration and its images → a network: as it starts to learn, and as it is exported."""

from __future__ import annotations

import math

import keras
import numpy as np
from numpy.typing import NDArray

from training.config import TrainConfig
from training.data.pixels import Images, spread
from training.networks import (
    backbone,
    basic,
    efficientnet,
    mirrored,
    pretrained,
    staged,
    whitening,
)
from training.networks.dimensions import PLAIN_PIXELS, Dimensions, PixelStatistics
from training.networks.inference import inference_batch
from training.networks.layers import Layers, ServedLayers, TrainedLayers

SAMPLE = 2_000  # images that the first layer is made from


def initial_network(config: TrainConfig, images: Images, labels: int) -> keras.Model:
    """The network that is trained, with its first weights; what it knows of pixels is of `images`.

    float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, labels].
    """
    if config.backbone:
        return backbone.build(config, labels, backbone.WEIGHTS)
    model = untrained_network(config, labels, pixel_statistics(config, images))
    if config.mirrored_filters:
        mirrored.pair(model)
    if config.network.is_pretrained:
        pretrained.load_into(model, pretrained.tensors())
    return model


def untrained_network(
    config: TrainConfig, labels: int, statistics: PixelStatistics = PLAIN_PIXELS
) -> keras.Model:
    """A network of random weights; without statistics, one to be counted."""
    if config.backbone:
        return backbone.build(config, labels, weights=None)
    return _built(config, labels, TrainedLayers(statistics, config.recipe.dropout))


def served_network(model: keras.Model, config: TrainConfig) -> keras.Model:
    """The same function as the trained `model`, as it is exported: no norms, no scales of ours."""
    if config.backbone:
        return model
    return _built(config, model.output_shape[-1], ServedLayers(model))


def initial_weights(config: TrainConfig) -> str:
    """Whose weights the network begins with, and their licence; empty where they are random."""
    if config.backbone:
        return backbone.about(config.backbone)
    return pretrained.ABOUT if config.network.is_pretrained else ""


def _built(config: TrainConfig, labels: int, layers: Layers) -> keras.Model:
    architecture = config.network
    ours = staged.build if architecture.is_staged else basic.build
    build = efficientnet.build if architecture.is_pretrained else ours
    dimensions = Dimensions(config.image_size, labels, config.width, config.branches)
    return build(architecture, dimensions, layers)


def pixel_statistics(config: TrainConfig, images: Images) -> PixelStatistics:
    """What the training images, uint8 [N, H, W, 3], tell of pixels."""
    if config.network.is_pretrained:
        return pretrained.PIXELS
    mean, deviation = channel_statistics(images)
    if not config.network.is_staged:
        return PixelStatistics(mean, deviation)
    most = min(SAMPLE, SAMPLE * 64 * 64 // math.prod(config.image_size))
    sample = images[spread(len(images), most)]
    moments = whitening.patch_moments(sample, mean, deviation)
    if config.mirrored_filters:
        moments = mirrored.with_mirror_images(moments)
    return PixelStatistics(mean, deviation, whitening.filters_of(moments))


def channel_statistics(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of each channel, float32 [3] each, over uint8 [N, H, W, 3].

    A deviation below 1 (images of one colour) is given as 1.
    """
    # From counts of the 256 values: exact, and without a float copy of the images.
    values = np.arange(256)
    counts = np.zeros((3, 256), np.int64)
    size = inference_batch(images.shape[1:3])
    for i in range(0, len(images), size):
        chunk = images[i : i + size]
        for channel in range(3):
            counts[channel] += np.bincount(chunk[..., channel].reshape(-1), minlength=256)
    means = [float(n @ values / n.sum()) for n in counts]
    squares = [float(n @ values**2 / n.sum()) for n in counts]
    deviations = [math.sqrt(max(1.0, s - m * m)) for m, s in zip(means, squares, strict=True)]
    return np.array(means, np.float32), np.array(deviations, np.float32)
