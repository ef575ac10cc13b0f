"""The tutorial's network: CONV-RELU-CONV-RELU-POOL twice, a dense layer of 256, dropout."""

from __future__ import annotations

import keras

from training.architectures import Architecture
from training.networks.dimensions import Dimensions
from training.networks.layers import Layers

DENSE = 256


def build(architecture: Architecture, dimensions: Dimensions, layers: Layers) -> keras.Model:
    """The network of these layers: float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, labels].

    3x3 filters without padding, so that 32x32 becomes 30x30x32 after the first layer; 478 k
    parameters for 32x32 and 10 labels. The dense layer grows with the image's area.
    """
    pixels, x = layers.pixels(dimensions.image)
    for stage, filters in enumerate(architecture.widths, start=1):
        for place in range(1, architecture.depth + 1):
            is_first = stage == place == 1
            name = f"conv{stage}_{place}"
            x = layers.convolution(x, name, dimensions.scaled(filters), is_first=is_first)
        x = keras.layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    x = layers.flat(x)
    x = layers.dense(x, "dense", dimensions.scaled(DENSE), "relu")
    x = layers.dropout(x)
    logits = layers.dense(x, "logits", dimensions.labels)
    return keras.Model(pixels, logits, name=architecture.name)
