"""Grid pointing: whether a map of a mosaic is on the image whose label it is to explain.

Böhle, Fritz, Schiele, Convolutional Dynamic Alignment Networks for Interpretable Classifications,
2021. Four images of four labels are shrunk to half their size and put together, so that the mosaic
has the model's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """A mosaic, uint8 [H, W, 3], where one of its images is, and the label of that one."""

    mosaic: Pixels
    place: tuple[slice, slice]
    label: int

    def share(self, importance: NDArray[np.floating[Any]]) -> float:
        """The tile's share of all importance, [H, W], above 0: a quarter by chance."""
        positive = np.maximum(importance, 0)
        return float(positive[self.place].sum() / max(positive.sum(), 1e-12))


def tiles(images: Sequence[Sequence[Pixels]]) -> list[Tile]:
    """All tiles of mosaics that have each image once, in random places.

    Args:
        images: as many of each of at least four labels, of an even height and width.
    """
    turns = [(label, some[i]) for i in range(len(images[0])) for label, some in enumerate(images)]
    rng, found = np.random.default_rng(0), []
    for first in range(0, len(turns) - 3, 4):  # four that follow each other have four labels
        four = [turns[first + i] for i in rng.permutation(4)]
        shrunk = [_half(image) for _, image in four]
        mosaic = np.concatenate([np.concatenate(shrunk[i : i + 2], axis=1) for i in (0, 2)])
        height, width = shrunk[0].shape[:2]
        for place, (label, _) in enumerate(four):
            top, left = place // 2 * height, place % 2 * width
            found.append(Tile(mosaic, (slice(top, top + height), slice(left, left + width)), label))
    return found


def _half(image: Pixels) -> Pixels:
    size = image.shape[1] // 2, image.shape[0] // 2
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
