"""What the layers answer to a picture, and the pictures that excite their filters most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.report.network import Layer, Network, at

SHOWN_LAYERS = 8
ROUNDS = 48
STRIDE = 12.0  # grey levels that a pixel moves in a round, typically; falls to a tenth
WHISPER = 0.05
CANVAS = 96  # the longest side of a picture that is made
SHAKE = 2  # pixels by which the picture is moved between rounds


@dataclass(frozen=True)
class Excitation:
    """A picture made for one filter.

    `image`: uint8 [H, W, 3]. `reached`: the filter's mean activation, what is negative counted as
    0; `usual`: the same, averaged over photographs.
    """

    filter: int
    image: NDArray[np.uint8]
    reached: float
    usual: float


def chosen_layers(layers: Sequence[Layer], most: int) -> tuple[Layer, ...]:
    """The layers that answer with maps, or so many of them evenly from the first to the last."""
    spatial = [layer for layer in layers if layer.is_spatial]
    if len(spatial) <= most:
        return tuple(spatial)
    return tuple(spatial[round(i)] for i in np.linspace(0, len(spatial) - 1, most))


def feature_maps(network: Network, image: NDArray[np.uint8], layer: Layer) -> NDArray[np.float32]:
    """The layer's answer to one picture, float32 [C, H, W]."""
    values = network.trace(image[None].astype(np.float32), layer.answer)
    return np.asarray(values[layer.answer][0], np.float32)


def mean_activations(network: Network, pixels: NDArray[Any], layer: Layer) -> NDArray[np.float64]:
    """Each filter's mean over its map, negative answers counted as 0; float64 [N, C]."""
    answers = [
        np.maximum(network.trace(pixels[i : i + 1], layer.linear)[layer.linear], 0).mean(
            axis=(2, 3), dtype=np.float64
        )
        for i in range(len(pixels))
    ]
    return np.concatenate(answers)


def liveliest(usual: NDArray[np.float64], count: int) -> list[int]:
    """The filters that tell photographs apart most, or answer most to a single one.

    Args:
        usual: the photographs' mean activations, [N, C].
        count: how many filters, at most.
    """
    order = np.argsort(-(usual.std(axis=0) if len(usual) > 1 else usual[0]), kind="stable")
    return sorted(order[:count].tolist())


def excite(
    network: Network,
    layer: Layer,
    filters: Sequence[int],
    usual: NDArray[np.float64],
    colour: NDArray[np.floating],
) -> list[Excitation]:
    """Pictures that make each filter's mean activation as large as gradient ascent gets it.

    From faint noise around a colour, ROUNDS steps up the gradient, with less and less blurring in
    between, which keeps what forms from being single pixels. The same arguments give the same
    pictures, of the network's size or, where it is larger and the layer lets them, CANVAS.

    Args:
        network: the network.
        layer: which of its layers.
        filters: which of the layer's filters.
        usual: photographs' mean activations, [N, C].
        colour: [3], 0..255.

    Raises:
        NoRule: the network has an operator that cannot be differentiated.
    """
    rng = np.random.default_rng(0)
    small = (min(CANVAS, network.size[0]), min(CANVAS, network.size[1]))
    size = small if network.takes(small, layer.linear) else network.size
    noise = rng.normal(0, 10, (1, *size, 3))
    pictures = np.repeat(colour + noise, len(filters), axis=0).astype(np.float32)
    for done in range(ROUNDS):
        move = tuple(rng.integers(-SHAKE, SHAKE + 1, 2).tolist())
        moved = np.roll(pictures, move, axis=(1, 2))
        climbed = _climb(network, layer, filters, moved, done / ROUNDS)
        pictures = np.roll(climbed, (-move[0], -move[1]), axis=(1, 2))
    images = np.rint(pictures).clip(0, 255).astype(np.uint8)
    reached = mean_activations(network, images.astype(np.float32), layer)
    return [
        Excitation(number, images[i], float(reached[i, number]), float(usual[:, number].mean()))
        for i, number in enumerate(filters)
    ]


def _climb(
    network: Network,
    layer: Layer,
    filters: Sequence[int],
    pictures: NDArray[np.float32],
    share: float,
) -> NDArray[np.float32]:
    """The pictures one round higher, when this share of all rounds is done."""
    values = network.trace(pictures, layer.linear)
    shape = values[layer.linear].shape
    # Where the filter is silent only a whisper of the gradient counts: enough to wake it up.
    heard = np.where(values[layer.linear] > 0, 1.0, WHISPER).astype(np.float32)
    slope = network.gradient(values, layer.linear, at(filters, shape) * heard)
    slope /= np.sqrt((slope**2).mean(axis=(1, 2, 3), keepdims=True)) + 1e-12
    climbed = pictures + STRIDE * (1 - 0.9 * share) * slope
    return np.asarray(blur(climbed, 0.25 * (1 - share)).clip(0, 255), np.float32)


def blur(pictures: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    """Each pixel with `amount` of it given to its neighbours, across and then down; [N, H, W, 3].

    Borders keep what would leave, so the mean stays.
    """
    for axis in (1, 2):
        edge = [(0, 0)] * 4
        edge[axis] = (1, 1)
        wide = np.pad(pictures, edge, mode="edge")
        length = pictures.shape[axis]
        before, after = (np.take(wide, np.arange(length) + i, axis=axis) for i in (0, 2))
        pictures = (1 - amount) * pictures + amount / 2 * (before + after)
    return pictures
