"""How far probabilities can be trusted: one temperature, and the calibration error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 15
# Beyond these a softmax is flat or a step, whatever the network says.
COLDEST, HOTTEST = 0.05, 20.0
PRIOR_IMAGES = 10


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """The T that makes softmax(logits / T) most likely on held-out images.

    Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks (2017), section 4.2,
    with a prior: log T is taken as normal around 0 with variance 1 / PRIOR_IMAGES. It weighs as
    much as about so many images, so it is not seen among thousands of them, and keeps a handful,
    all answered rightly, from driving T towards 0 and every probability towards 1.

    With s = log(1/T) and z the logits, the slope of the negative log-posterior is
    sum(sum(p * z) - z[target]) / T + PRIOR_IMAGES * s; its zero is found by bisection.

    Args:
        logits: [N, labels], N at least 1.
        targets: [N], indices.

    Returns:
        T, between COLDEST and HOTTEST.
    """
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    chosen = z[np.arange(len(z)), targets]

    def slope(s: float) -> float:
        p = np.exp(z * math.exp(s))
        p /= p.sum(axis=1, keepdims=True)
        return float(((p * z).sum(axis=1) - chosen).sum()) * math.exp(s) + PRIOR_IMAGES * s

    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def logits_of(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """Logits whose softmax these probabilities are, of the same shape and type."""
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Probabilities of logits [N, labels], of the same type; rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibration_error(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], bins: int = BINS
) -> float:
    """Expected calibration error of the top label, 0..1, over bins of equal mass.

    Images are sorted by their top probability and cut into `bins` parts of equal size (±1); the
    error is the mean of |accuracy - mean top probability| over the parts, weighted by size.

    Args:
        probabilities: [N, labels], N at least 1.
        targets: [N], indices.
        bins: how many parts; with fewer images than that, one image each.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == targets
    order = np.argsort(confidence, kind="stable")
    error = sum(
        abs(float((correct[part] - confidence[part]).sum()))
        for part in np.array_split(order, min(bins, len(order)))
    )
    return error / len(order)
