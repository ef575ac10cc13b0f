"""Whitening → stages of 3x3 convolutions that halve the image → maximum → dense.

After K. Jordan, 94% on CIFAR-10 in 3.29 Seconds (2024). A stage of three convolutions or more adds
its input to its output (He et al., 2015). Large images get one more stage. Branches share the
whitening and the first stage.
"""

from __future__ import annotations

import keras

from training.architectures import Architecture, is_large
from training.networks import branches
from training.networks.dimensions import Dimensions
from training.networks.layers import Layers, Tensor


def build(architecture: Architecture, dimensions: Dimensions, layers: Layers) -> keras.Model:
    """The network of these layers: float32 pixels [N, H, W, 3] in 0 to 255 → logits [N, labels]."""
    widths = _widths(architecture, dimensions)
    places = range(1, architecture.depth + 1)

    def stage(x: Tensor, number: int, suffix: str = "") -> Tensor:
        names = [f"{number}_{place}{suffix}" for place in places]
        return _stage(x, names, widths[number - 1], layers)

    pixels, x = layers.pixels(dimensions.image)
    shared = stage(layers.whitened(x, dimensions.image), 1)
    ends = []
    for suffix in branches.suffixes(dimensions.branches):
        x = shared
        for number in range(2, len(widths) + 1):
            x = stage(x, number, suffix)
        ends.append(keras.layers.GlobalMaxPooling2D(name=f"maximum{suffix}")(x))
    logits = layers.answer(ends, dimensions.labels)
    return keras.Model(pixels, logits, name=architecture.name)


def _widths(architecture: Architecture, dimensions: Dimensions) -> list[int]:
    """Filters of each stage; one more in front where the image has room for it."""
    widths = architecture.widths
    if is_large(dimensions.image):
        widths = (widths[0], *widths)
    return [dimensions.scaled(filters) for filters in widths]


def _stage(x: Tensor, names: list[str], filters: int, layers: Layers) -> Tensor:
    """Units of these names, the first of which halves height and width."""
    first, *others = names
    x = before = layers.unit(x, first, filters, pool=True)
    for name in others:
        is_residual = len(names) > 2 and name == names[-1]
        x = layers.unit(x, name, filters, add=before if is_residual else None)
    return x
