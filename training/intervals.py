"""What a share that was counted in a sample says of all that the sample stands for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964  # deviations of a normal distribution that 95 % lie within


def share_interval(counted: int, of: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval, 0..1: where the true share lies, 95 % sure unless `z` is another.

    For an accuracy: right answers, of images (at least 1).
    """
    centre = (counted + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(counted * (of - counted) / of + z * z / 4)
    return centre - half, centre + half


def rank_area(higher: NDArray[np.floating[Any]], lower: NDArray[np.floating[Any]]) -> float:
    """The area under the ROC curve, 0..1: how often one of `higher` is above one of `lower`.

    Both are [N], in any order; what is equal counts half.
    """
    below = np.sort(lower)
    under, not_above = (np.searchsorted(below, higher, side) for side in ("left", "right"))
    return float((under + not_above).mean() / 2 / len(lower))
