"""What a network is built for: sizes, and what the training images tell of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dimensions:
    """Sizes. `image`: height and width in pixels. `width`: every layer's filters, as a multiple."""

    image: tuple[int, int]
    labels: int
    width: float = 1.0
    branches: int = 1

    def scaled(self, filters: int) -> int:
        """Filters at this width: at least 8, and a multiple of 8, as vector instructions like."""
        return max(8, 8 * round(filters * self.width / 8))


@dataclass(frozen=True)
class PixelStatistics:
    """What a network knows of pixels before it learns.

    `mean` and `deviation`: float32 [3], of the channels, 0 to 255; the deviation above 0.
    `whitening`: the first layer's filters, float32 [k, k, 3, F] as `whitening.filters_of` makes
    them, or None where the architecture has no such layer, or a random one will do.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    whitening: NDArray[np.float32] | None = None


# Of a network that is only counted, or never asked.
PLAIN_PIXELS = PixelStatistics(np.zeros(3, np.float32), np.ones(3, np.float32))
