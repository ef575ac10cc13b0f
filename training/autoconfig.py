"""What is asked of a folder of a person's own pictures, where the person does not say.

A quick look at the files (names, and the headers of some) gives a survey; the survey gives options.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from service.inference.imaging import DECODE_ERRORS
from training.config import TrainConfig, check_options
from training.datasets import Listing, list_images, parts
from training.progress import say
from training.recipes import RECIPES

SIDES = (32, 48, 64, 96, 128)  # that are chosen without being asked for; larger ones can be
SAMPLE = 500  # files whose headers are read
FEW = 4_000  # images, below which the small network is as good and far quicker
SHOWN_LABELS = 20  # one below the other; more are listed several to a line
UNEVEN = 1.5  # times as many images of one label as of another, from where rare ones weigh more
STEPS_AN_EPOCH = 25
LARGEST_BATCH, SMALLEST_BATCH = 256, 16
VISITS = 400_000  # images that a run looks at, over all epochs
FEWEST_EPOCHS, MOST_EPOCHS = 12, 100


@dataclass(frozen=True)
class Survey:
    """What a look at a folder finds: images per label, and (width, height) of some of them."""

    folder: Path
    counts: dict[str, int]
    sizes: tuple[tuple[int, int], ...]

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def side(self) -> int:
        """The shorter side of the image in the middle; 0 where none could be read."""
        shorter = sorted(min(size) for size in self.sizes)
        return shorter[len(shorter) // 2] if shorter else 0


def survey(folder: Path) -> Survey:
    """Look at the images that would be trained on. Raises DataError."""
    listing = list_images(parts(folder).get("train", folder), quiet=True)
    numbers = np.bincount(listing.targets, minlength=len(listing.labels)).tolist()
    return Survey(folder, dict(zip(listing.labels, numbers, strict=True)), tuple(_sizes(listing)))


def _sizes(listing: Listing) -> list[tuple[int, int]]:
    """Width and height of evenly spread files, as far as they can be read."""
    found = []
    for path in listing.paths[:: math.ceil(len(listing.paths) / SAMPLE)]:
        try:
            with Image.open(path) as image:
                found.append(image.size)
        except (*DECODE_ERRORS, Image.DecompressionBombError):
            continue  # named when it is decoded
    return found


def describe(found: Survey) -> str:
    """The survey as lines to read."""
    numbers = sorted(found.counts.values())
    lines = [f"{found.folder}: {found.images} images of {len(found.counts)} labels"]
    if len(found.counts) <= SHOWN_LABELS:
        width = max(map(len, found.counts))
        lines += [f"  {label:<{width}}  {count}" for label, count in found.counts.items()]
    else:
        lines.append(f"  {numbers[0]} to {numbers[-1]} a label, {_middle(numbers)} in the middle:")
        listed = ", ".join(f"{label} {count}" for label, count in found.counts.items())
        lines.append(textwrap.fill(listed, 100, initial_indent="  ", subsequent_indent="  "))
    if found.sizes:
        ordered = sorted(found.sizes, key=math.prod)
        small, large = (f"{w}x{h}" for w, h in (ordered[0], ordered[-1]))
        looked = "" if len(found.sizes) == found.images else f" ({len(found.sizes)} looked at)"
        lines.append(f"  sizes {small} to {large}, shorter side {found.side} in the middle{looked}")
    return "\n".join(lines)


def _middle(numbers: Sequence[int]) -> int:
    return numbers[len(numbers) // 2]


def suggestions(found: Survey, given: dict[str, Any]) -> dict[str, Any]:
    """Options that suit these pictures; those `given` are taken into account and not changed."""
    apart = parts(found.folder)
    kept = 1.0
    for title in ("validation", "test"):
        if title not in apart:
            name = f"{title}_fraction"
            kept *= 1 - given.get(name, getattr(TrainConfig, name))
    images = max(1, round(found.images * kept))
    side = _side(found)
    size = given.get("image_size", (side, side))
    architecture = "small" if images < FEW else "fast"
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(VISITS / images)))
    numbers = [*found.counts.values()]
    uneven = max(numbers) >= UNEVEN * min(numbers)
    wanted: dict[str, Any] = {
        "image_size": size,
        "architecture": architecture,
        "epochs": epochs,
        "patience": max(8, epochs // 3),
        "balance": 0.5 if uneven else 0.0,
    }
    if given.get("architecture", architecture) != "basic":
        batch = given.get("batch_size", _batch_size(images, size))
        wanted["batch_size"] = batch
        recipe = RECIPES[given.get("architecture", architecture)]
        if given.get("optimizer", recipe["optimizer"]) == recipe["optimizer"]:
            root = math.sqrt(batch / recipe["batch_size"])
            wanted["learning_rate"] = round(recipe["learning_rate"] * root, 4)
        wanted.update(_augmentation(size))
    else:
        batch = min(TrainConfig.batch_size, _largest_batch(size))
        wanted.update({"batch_size": batch, "zoom": 0.2, "colour": 0.1})
    return {name: value for name, value in wanted.items() if name not in given}


def _side(found: Survey) -> int:
    """The largest of SIDES that most images have."""
    return max([SIDES[0], *(side for side in SIDES if side <= found.side)])


def _batch_size(images: int, size: tuple[int, int]) -> int:
    """A power of two that leaves some steps to an epoch, and memory to other programs."""
    fits = 2 ** int(math.log2(max(SMALLEST_BATCH, images / STEPS_AN_EPOCH)))
    return max(SMALLEST_BATCH, min(int(fits), _largest_batch(size)))


def _largest_batch(size: tuple[int, int]) -> int:
    return LARGEST_BATCH if max(size) <= 128 else LARGEST_BATCH // 4


def _augmentation(size: tuple[int, int]) -> dict[str, Any]:
    """What suits photographs: seen nearer, in other light, with something in front."""
    side = min(size)
    return {"shift": side // 16, "zoom": 0.2, "colour": 0.1, "cutout": side // 4}


def complete(options: dict[str, Any]) -> dict[str, Any]:
    """The options with all that the folder suggests, said aloud; CIFAR-10's are left as they are.

    Raises:
        ConfigError: an option has a value that cannot work.
        DataError: the folder cannot be trained on.
    """
    check_options(options)
    folder = options.get("data")
    if folder is None or options.get("dataset", "folder") != "folder":
        return options
    found = survey(folder)
    say(describe(found))
    wanted = suggestions(found, options)
    if wanted:
        words = ", ".join(
            f"{name.replace('_', ' ')} {_text(value)}" for name, value in wanted.items()
        )
        say(f"chosen to suit them: {words}")
    return {**options, **wanted}


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
