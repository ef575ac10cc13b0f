"""Which pixels an answer hangs on: by covering them, and by following the gradient.

Both compare the picture with the same nothing, its own mean colour.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import OUTPUT_NAME
from training.report.network import Network, at, images_at_once

LARGE = 96  # a side above which fewer places and steps must do
SQUARE = 4  # its side is the picture's shorter side divided by this


def mean_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture's mean, uint8 [3]."""
    return np.asarray(np.rint(image.reshape(-1, 3).mean(axis=0)), np.uint8)


def covering_square(size: tuple[int, int]) -> int:
    """The side of the square that covers a part of a picture of this size."""
    return max(1, min(size) // SQUARE)


def occlusion(classifier: Classifier, image: NDArray[np.uint8], label: int) -> NDArray[np.float64]:
    """How far the label's probability falls when a part of the picture is covered.

    A square in the picture's mean colour is laid over it at 13 x 13 places or more, evenly spread
    (9 x 9 where the picture is LARGE). Each pixel gets the mean fall of the squares that covered
    it: above 0 where the pixel speaks for the label, below where it speaks against.

    Args:
        classifier: the model.
        image: uint8 [H, W, 3], as the model takes it.
        label: an index.

    Returns:
        float64 [H, W], -1..1.
    """
    side = covering_square(image.shape[:2])
    rows, columns = (_corners(length, side) for length in image.shape[:2])
    corners = list(itertools.product(rows, columns))
    covered = _answers(classifier, image, corners, side)[:, label]
    fall = float(classifier.predict(image[None])[0, label]) - covered.astype(np.float64)
    total, times = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    for (top, left), change in zip(corners, fall, strict=True):
        total[top : top + side, left : left + side] += change
        times[top : top + side, left : left + side] += 1
    return total / times


def _corners(length: int, side: int) -> list[int]:
    """Where squares begin: evenly spread, border to border, every pixel under one of them."""
    places = max(9 if length > LARGE else 13, math.ceil(length / side))
    return sorted({round(x) for x in np.linspace(0, length - side, places)})


def _answers(
    classifier: Classifier, image: NDArray[np.uint8], corners: list[tuple[int, int]], side: int
) -> NDArray[np.float32]:
    """Probabilities, [corners, labels], of the picture with each square covered."""
    colour, size = mean_colour(image), images_at_once(image.shape[:2])
    answers = []
    for first in range(0, len(corners), size):
        some = corners[first : first + size]
        batch = np.repeat(image[None], len(some), axis=0)
        for picture, (top, left) in zip(batch, some, strict=True):
            picture[top : top + side, left : left + side] = colour
        answers.append(classifier.predict(batch))
    return np.concatenate(answers)


def score(network: Network, pixels: NDArray[np.floating], label: int) -> NDArray[np.float64]:
    """What the gradient method explains, [N]: log-odds of the label, log(p / (1 - p)).

    Unlike the probability it does not stop to move where the network is sure.
    """
    values = network.trace(pixels)
    if network.logits is None:
        p = values[OUTPUT_NAME][:, label].astype(np.float64)
        return np.asarray(np.log(p) - np.log1p(-p))
    z = values[network.logits].astype(np.float64)
    others = np.delete(z, label, axis=1)
    top = others.max(axis=1)
    return np.asarray(z[:, label] - top - np.log(np.exp(others - top[:, None]).sum(axis=1)))


def gradient(network: Network, pixels: NDArray[np.floating], label: int) -> NDArray[np.float32]:
    """The gradient of `score` with respect to the pixels, float32 [N, H, W, 3].

    Raises:
        NoRule: the network has an operator that cannot be differentiated.
    """
    values = network.trace(pixels)
    if network.logits is None:
        p = values[OUTPUT_NAME]
        weights = at([label] * len(p), p.shape) / (p * (1 - p))
        return network.gradient(values, OUTPUT_NAME, weights)
    z = values[network.logits]
    others = z.copy()
    others[:, label] = -np.inf
    share = np.exp(others - others.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return network.gradient(values, network.logits, at([label] * len(z), z.shape) - share)


def integrated_gradients(
    network: Network, image: NDArray[np.uint8], label: int
) -> NDArray[np.float64]:
    """What each pixel adds to `score` on the straight way from the mean colour to the picture.

    Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks (2017): gradients along the
    way, averaged, times the way. Summed over all pixels they give the score of the picture less
    that of the mean colour, up to the error of 32
    midpoints, or 16 where the picture is LARGE.

    Returns:
        float64 [H, W], summed over the colours.

    Raises:
        NoRule: the network has an operator that cannot be differentiated.
    """
    start = np.broadcast_to(mean_colour(image), image.shape).astype(np.float32)
    way = image.astype(np.float32) - start
    total = np.zeros(image.shape)
    size = images_at_once(image.shape[:2])
    steps = 16 if max(image.shape) > LARGE else 32
    shares = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    for first in range(0, steps, size):
        some = shares[first : first + size, None, None, None]
        total += gradient(network, start + some * way, label).sum(axis=0, dtype=np.float64)
    return np.asarray((total / steps * way).sum(axis=2))
