"""EfficientNet-Lite0: inverted residuals of depthwise convolutions, rectified at 6.

After M. Tan, Q. Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks
(2019), in the Lite form of tensorflow/tpu (2020): no squeeze-and-excite, and ReLU6 in place of
swish, so that 8-bit integers can hold what is between the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from training.architectures import Architecture
from training.networks.dimensions import Dimensions
from training.networks.layers import Layers, Tensor

STEM, FEATURES = 32, 1280
# Of a side in pixels. Filters that were learned from photographs want details in places of theirs.
SMALLEST, ENLARGED = 64, 96
STEM_NAME, HEAD_NAME, FEATURES_NAME, LOGITS_NAME = "stem", "head", "features", "logits"


@dataclass(frozen=True)
class Block:
    """An inverted residual.

    `side`: of the depthwise filters. `expand`: channels inside, as a multiple of its input's.
    """

    number: int
    side: int
    stride: int
    expand: int
    filters: int

    @property
    def name(self) -> str:
        """What the names of its layers begin with."""
        return f"block{self.number}"


# Blocks, side, stride of the first, expand, filters.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def blocks() -> list[Block]:
    """The sixteen blocks, from the image to the features."""
    found: list[Block] = []
    for count, side, stride, expand, filters in _STAGES:
        for place in range(count):
            found.append(Block(len(found), side, stride if place == 0 else 1, expand, filters))
    return found


def depth_of(path: str) -> int:
    """How many blocks lie between the answer and a variable of this path: 0 for the last layer."""
    layer = path.split("/", maxsplit=1)[0]
    places = [STEM_NAME, *(block.name for block in blocks()), HEAD_NAME, LOGITS_NAME]
    return len(places) - 1 - places.index(layer.split("_")[0])


def build(architecture: Architecture, dimensions: Dimensions, layers: Layers) -> keras.Model:
    """The network of these layers: float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, labels].

    Its layer `features` gives what the last product is taken of, float32 [N, 1280]. There are no
    batch norms: those of the pretrained network are in its filters (see `pretrained`). Images below
    SMALLEST are enlarged first, by a whole factor, to ENLARGED or a little more.
    """
    pixels, x = layers.pixels(dimensions.image)
    if min(dimensions.image) < SMALLEST:
        factor = math.ceil(ENLARGED / min(dimensions.image))
        x = keras.layers.UpSampling2D(factor, interpolation="bilinear", name="enlarge")(x)
    x = layers.filters(x, STEM_NAME, STEM, 3, stride=2, is_first=True)
    for block in blocks():
        x = _block(x, block, layers)
    x = layers.filters(x, HEAD_NAME, FEATURES, 1)
    x = keras.layers.GlobalAveragePooling2D(name=FEATURES_NAME)(x)
    logits = layers.dense(layers.dropout(x), LOGITS_NAME, dimensions.labels)
    return keras.Model(pixels, logits, name=architecture.name)


def _block(x: Tensor, block: Block, layers: Layers) -> Tensor:
    """Wider, filtered channel by channel, narrower; its input is added where the shape is kept."""
    before, channels = x, x.shape[-1]
    if block.expand > 1:
        x = layers.filters(x, f"{block.name}_expand", channels * block.expand, 1)
    x = layers.depthwise(x, f"{block.name}_depthwise", block.side, block.stride)
    x = layers.filters(x, f"{block.name}_project", block.filters, 1, rectify=False)
    if block.stride == 1 and channels == block.filters:
        x = keras.layers.Add(name=f"{block.name}_add")([x, before])
    return x
