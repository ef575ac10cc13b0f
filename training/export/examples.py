"""Test images that go into the model file, for those who want to try the model."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.contract import Example, InputSpec
from training.data.dataset import Split
from training.data.decoding import ReadFile, decoded
from training.data.folders import Listing
from training.data.pixels import spread

MOST = 10
MOST_BYTES = 2_950  # of each; the contract bounds ten of them, as data URLs
SIDES = (128, 96, 64, 48, 32)
QUALITY = 75


def of_split(split: Split, labels: Sequence[str]) -> tuple[Example, ...]:
    """Some of a split's images, as the network sees them."""
    places = chosen(split.targets)
    return _examples(split.images[places], [labels[target] for target in split.targets[places]])


def of_listing(listing: Listing, given: InputSpec) -> tuple[Example, ...]:
    """Some of the listed images, as a network with this input sees them; unreadable ones not."""
    some = listing.take(chosen(listing.targets))
    size = given.height, given.width
    with closing(decoded(some.paths, size, given.resize, "examples")) as results:
        read = [
            (one.image.pixels, listing.labels[target])
            for one, target in zip(results, some.targets, strict=True)
            if isinstance(one, ReadFile)
        ]
    return _examples([pixels for pixels, _ in read], [label for _, label in read])


def chosen(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of MOST images of N, or fewer: one of each of ten labels, more where there are fewer.

    Labels are spread over all, images over a label's. What the model answers is not looked at.
    """
    present = np.unique(targets)
    wanted = Counter(present[np.arange(MOST) * len(present) // MOST].tolist())
    places = [(np.flatnonzero(targets == label), number) for label, number in wanted.items()]
    return np.concatenate([each[spread(len(each), number)] for each, number in places])


def data_url(pixels: NDArray[np.uint8]) -> str:
    """An image, uint8 [H, W, 3], as a PNG of at most MOST_BYTES, or as a JPEG, smaller if need be.

    A PNG has the very pixels. None has anything that came with the photograph, such as its place.
    """
    image = Image.fromarray(pixels)
    content, kind = io.BytesIO(), "png"
    image.save(content, "PNG", optimize=True)
    for side in SIDES:
        if content.tell() <= MOST_BYTES:
            break
        content, kind = io.BytesIO(), "jpeg"
        image.thumbnail((side, side))
        image.save(content, "JPEG", quality=QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _examples(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], labels: Sequence[str]
) -> tuple[Example, ...]:
    return tuple(
        Example(label, data_url(pixels)) for pixels, label in zip(images, labels, strict=True)
    )
