"""How far probabilities can be trusted: a temperature, the calibration error, its curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import ReliabilityBin

BINS = 15
# With fewer, a bin's share of right answers says little: of 50, it is good to 14 points, 95 % sure.
LEAST_IN_BIN = 50
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

    The mean of |accuracy - mean top probability| over the bins of `reliability`, weighted by size.

    Args:
        probabilities: [N, labels], N at least 1.
        targets: [N], indices.
        bins: how many; with fewer images than that, one image each.
    """
    is_right = probabilities.argmax(axis=1) == targets
    curve = reliability(probabilities.max(axis=1), is_right, least=1, bins=bins)
    return sum(each.images * abs(each.right - each.mean) for each in curve) / len(targets)


def reliability(
    confidence: NDArray[np.floating],
    is_right: NDArray[np.bool_],
    least: int = LEAST_IN_BIN,
    bins: int = BINS,
) -> tuple[ReliabilityBin, ...]:
    """How many answers are right, by their top probability: the curve of `calibration_error`.

    Bins of equal mass (Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for
    Natural Language Processing Models, 2015), for each the mean top probability and the accuracy
    (Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, section 2).
    Images of the same top probability are in one bin, and a bin of fewer than `least` images is
    joined with its neighbour.

    Args:
        confidence: [N], top probabilities.
        is_right: [N], whether the top label is the true one.
        least: images in a bin, at least 1.
        bins: how many, at most.

    Returns:
        The bins, the least sure first; none where N is below `least`.
    """
    order = np.argsort(confidence, kind="stable")
    ranked, right = confidence[order].astype(np.float64), is_right[order]
    count = len(ranked)
    if count < least:
        return ()
    starts = [0]
    for part in np.array_split(np.arange(count), min(bins, count))[1:]:
        start = int(np.searchsorted(ranked, ranked[part[0]]))
        if min(start - starts[-1], count - start) >= least:
            starts.append(start)
    return tuple(
        ReliabilityBin(
            lowest=float(ranked[start]),
            mean=float(ranked[start:end].mean()),
            right=float(right[start:end].mean()),
            images=end - start,
        )
        for start, end in zip(starts, [*starts[1:], count], strict=True)
    )
