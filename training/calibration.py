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

    The mean of |accuracy - mean top probability| over the bins of `equal_mass`, weighted by size.

    Args:
        probabilities: [N, labels], N at least 1.
        targets: [N], indices.
        bins: how many; with fewer images than that, one image each.
    """
    is_right = probabilities.argmax(axis=1) == targets
    curve = equal_mass(probabilities.max(axis=1), is_right, bins)
    return sum(each.images * abs(each.right - each.mean) for each in curve) / len(targets)


def equal_mass(
    confidence: NDArray[np.floating], is_right: NDArray[np.bool_], bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """How many answers are right, by their top probability, in bins of as many images (±1).

    For each bin the mean top probability and the accuracy (Guo, Pleiss, Sun, Weinberger, On
    Calibration of Modern Neural Networks, 2017, section 2), of equal mass as in Nguyen and
    O'Connor, Posterior Calibration and Exploratory Analysis for Natural Language Processing Models
    (2015). Images of the same top probability are in one bin.

    Args:
        confidence: [N], top probabilities, N at least 1.
        is_right: [N], whether the top label is the true one.
        bins: how many, at most.

    Returns:
        The bins, the least sure first.
    """
    return _binned(confidence, is_right, _edges(confidence, bins), 1)


def reliability(
    confidence: NDArray[np.floating], is_right: NDArray[np.bool_]
) -> tuple[ReliabilityBin, ...]:
    """The curve that tells of one answer how many like it were right, for the card.

    The bins of `equal_mass`, cut at each tenth as well: most images are answered surely, and one
    bin would reach from 25 to 60 %. A bin of fewer than LEAST_IN_BIN images is joined with its
    neighbour; with fewer in all there is none. Arguments are as of `equal_mass`.
    """
    edges = np.concatenate([_edges(confidence, BINS), np.arange(1, 10) / 10])
    return _binned(confidence, is_right, edges, LEAST_IN_BIN)


def _edges(confidence: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """The smallest top probability of each of so many parts of equal size."""
    ranked = np.sort(confidence).astype(np.float64)
    return np.array([part[0] for part in np.array_split(ranked, min(bins, len(ranked)))])


def _binned(
    confidence: NDArray[np.floating],
    is_right: NDArray[np.bool_],
    edges: NDArray[np.float64],
    least: int,
) -> tuple[ReliabilityBin, ...]:
    """Bins that begin at these top probabilities, each of so many images at least."""
    order = np.argsort(confidence, kind="stable")
    ranked, right = confidence[order].astype(np.float64), is_right[order]
    count = len(ranked)
    if count < least:
        return ()
    starts = [0]
    for start in np.unique(np.searchsorted(ranked, edges)).tolist():
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
