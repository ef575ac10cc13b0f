"""Which images came before: the same pixels, or a picture and its thumbnail."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.imaging import DecodedImage
from training.progress import name_some, say

# A thumbnail is its picture where their means over 8x8 blocks differ by less than this: the root
# of the mean square, of 255, and as a share of the picture's own deviation, for images that are
# nearly plain. Measured: thumbnails of 64 to 320 pixels and their pictures 0.5 to 3.2; the nearest
# two of 10,000 test images of CIFAR-10 7.4.
GRID = 8
TOLERANCE = 4.0
SHARE = 0.12

# From an image's place to the corners of what may look like it: these are in 8 cells at most.
_SHIFTS = np.array([*itertools.product((-TOLERANCE, TOLERANCE), repeat=3)])


class _Image(NamedTuple):
    split: str
    label: str
    path: Path


class _Cell:
    """Images whose blocks have about the same place, side by side to be compared at one go."""

    def __init__(self) -> None:
        self._sizes = array("Q")
        self._blocks = bytearray()
        self._images: list[_Image] = []

    def add(self, size: int, blocks: NDArray[np.uint8], image: _Image) -> None:
        """Keep an image, its size in pixels and its blocks."""
        self._sizes.append(size)
        self._blocks += blocks.tobytes()
        self._images.append(image)

    def find(self, size: int, blocks: NDArray[np.uint8], limit: float) -> _Image | None:
        """The first image of another size whose blocks differ by less than the limit.

        One camera's pictures of one scene may be as alike as a thumbnail, and have the same size.
        """
        others = np.flatnonzero(np.frombuffer(self._sizes, np.uint64) != size)
        if not len(others):
            return None
        kept = np.frombuffer(self._blocks, np.uint8).reshape(-1, len(blocks))[others]
        difference = kept.astype(np.float32) - blocks
        square = np.einsum("ij,ij->i", difference, difference) / len(blocks)
        alike = others[square < limit**2]
        return self._images[alike[0]] if len(alike) else None


_Cells = dict[tuple[int, ...], _Cell]


class Twins:
    """The images of all splits so far, and what to say about those that came more than once."""

    def __init__(self) -> None:
        self._by_pixels: dict[bytes, _Image] = {}
        self._by_looks: dict[str, _Cells] = defaultdict(lambda: defaultdict(_Cell))
        self._across: list[str] = []
        self._contrary: list[str] = []
        self._again = 0

    def is_new_to(self, split: str, path: Path, label: str, decoded: DecodedImage) -> bool:
        """Whether the image may stand in this split: not where it stands in one before."""
        image = _Image(split, label, path)
        content = np.ascontiguousarray(decoded.pixels).data
        digest = hashlib.blake2b(content, digest_size=16).digest()
        first = self._by_pixels.setdefault(digest, image)
        before = self._like(decoded, image) if first is image else first
        if before is None:
            return True
        pair = f"{path} = {before.path}"
        if before.label != label:
            self._contrary.append(pair)
        if before.split != split:
            self._across.append(pair)
            return False
        self._again += 1
        return True

    def _like(self, decoded: DecodedImage, image: _Image) -> _Image | None:
        """An image of the same label that looks the same in another size; keeps this one."""
        blocks = _blocks(decoded.pixels)
        place = _place(blocks)
        size = decoded.source_pixels
        limit = min(TOLERANCE, SHARE * float(blocks.std()))
        cells = self._by_looks[image.label]
        for at in _cells_at(place + _SHIFTS):
            if at in cells and (before := cells[at].find(size, blocks, limit)):
                return before
        (at,) = _cells_at(place[None])
        cells[at].add(size, blocks, image)
        return None

    def report(self) -> None:
        """Say what came more than once."""
        if self._again:
            say(f"the same image again in its split: {self._again}")
        name_some(
            f"the same image in two splits: {len(self._across)}; test, then validation, keeps it",
            self._across,
        )
        name_some(f"the same image under two labels: {len(self._contrary)}", self._contrary)


def _blocks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over the blocks of a grid, uint8 [GRID * GRID * 3]."""
    small = Image.fromarray(pixels).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1)


def _place(blocks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness, left against right, above against below: each differs less than the blocks."""
    grey = blocks.reshape(GRID, GRID, 3).mean(axis=2)
    sides = np.sign(np.arange(GRID) - (GRID - 1) / 2)
    return np.array([grey.mean(), (grey * sides).mean(), (grey.T * sides).mean()])


def _cells_at(places: NDArray[np.float64]) -> set[tuple[int, ...]]:
    return {tuple(row) for row in (places // (2 * TOLERANCE)).astype(int).tolist()}
