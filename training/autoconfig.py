"""Options for a folder of a person's own photographs, where the person gives none.

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
from training.architectures import ARCHITECTURES
from training.config import TEST_FRACTION, TrainConfig, check_options, publishable, with_meant
from training.data.folders import Listing, list_images, parts
from training.progress import quiet_start, say

SIDES = (32, 48, 64, 96, 128)  # that are chosen without being asked for; larger ones can be
SAMPLE = 500  # files whose headers are read
FEW = 4_000  # images, below which the small network is as good and far quicker
FEW_MINUTES = 10  # up to which it is better for any number of images
# A network that knows photographs wins where they are large, or few; and where it can be shown
# each of them more than once or twice.
PRETRAINED, PRETRAINED_SIDE, MOST_FOR_PRETRAINED = "efficientnet-lite0", 64, 30_000
OURS_ALONE = frozenset({"branches", "initial_weights", "mirrored_filters", "width"})
SHOWN_LABELS = 20  # one below the other; more are listed several to a line
UNEVEN = 1.5  # times as many images of one label as of another, from where rare ones weigh more
STEPS_AN_EPOCH = 25
LARGEST_BATCH, SMALLEST_BATCH = 256, 16
TRIED = frozenset({"epochs", "flip"})  # options that are chosen by trying them out
MOST_EPOCHS = 100  # of a run that ends by the clock, or for want of patience
# What suits photographs: seen nearer, in other light.
_AUGMENTATION = {"zoom": 0.2, "colour": 0.1}


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
    """Options that suit these images; those `given` are taken into account and not changed."""
    images = _training_images(found, given)
    architecture = given.get("architecture", _architecture(found, images, given))
    usual = ARCHITECTURES[architecture].options
    is_pretrained = ARCHITECTURES[architecture].is_pretrained
    side = _side(found)
    # Enlarged if they must be: filters that were learned elsewhere want details in their places.
    size = given.get("image_size", usual["image_size"] if is_pretrained else (side, side))
    minutes = given.get("max_minutes", 0)
    epochs = given.get("epochs", MOST_EPOCHS)
    numbers = found.counts.values()
    is_uneven = max(numbers) >= UNEVEN * min(numbers)
    wanted: dict[str, Any] = {
        "image_size": size,
        "architecture": architecture,
        **({"epochs": epochs} if minutes else {}),
        "patience": max(8, epochs // 3),
        "class_weighting": 0.5 if is_uneven else 0.0,
        **_AUGMENTATION,
    }
    if is_pretrained:
        wanted |= {name: usual[name] for name in ("batch_size", "learning_rate")}
    elif "batch_size" in usual:  # the rate is known for that many, and follows the root
        batch = given.get("batch_size", _batch_size(images, size))
        rate = usual["learning_rate"] * math.sqrt(batch / usual["batch_size"])
        wanted |= {"batch_size": batch, "learning_rate": round(rate, 4)}
    else:
        wanted["batch_size"] = min(TrainConfig.batch_size, _largest_batch(size))
    if "batch_size" in usual:
        wanted |= {"shift": min(size) // 16, "cutout": min(size) // 4}
    return {name: value for name, value in wanted.items() if name not in given}


def _architecture(found: Survey, images: int, given: dict[str, Any]) -> str:
    """The network that suits so many training images, of this size, in this time."""
    is_apt = found.side >= PRETRAINED_SIDE or images < FEW
    fits = min(given.get("image_size", (PRETRAINED_SIDE,))) >= PRETRAINED_SIDE
    asks_for_ours = OURS_ALONE & given.keys()
    if is_apt and fits and images <= MOST_FOR_PRETRAINED and not asks_for_ours:
        return PRETRAINED
    is_long = "epochs" in given or given.get("max_minutes", 0) > FEW_MINUTES
    return "fast" if is_long and images >= FEW else "small"


def _training_images(found: Survey, given: dict[str, Any]) -> int:
    """How many are left to train on, once the other splits are set aside; at least 1."""
    apart = parts(found.folder)
    kept = 1.0
    if "validation" not in apart:
        kept *= 1 - given.get("validation_fraction", TrainConfig.validation_fraction)
    if "test" not in apart:
        kept *= 1 - TEST_FRACTION
    return max(1, round(found.images * kept))


def _side(found: Survey) -> int:
    """The largest of SIDES that most images have, or the least."""
    return max([SIDES[0], *(side for side in SIDES if side <= found.side)])


def _batch_size(images: int, size: tuple[int, int]) -> int:
    """A power of two that leaves some steps to an epoch, and memory to other programs."""
    fits = 2 ** int(math.log2(max(SMALLEST_BATCH, images / STEPS_AN_EPOCH)))
    return max(SMALLEST_BATCH, min(int(fits), _largest_batch(size)))


def _largest_batch(size: tuple[int, int]) -> int:
    return LARGEST_BATCH if max(size) <= 128 else LARGEST_BATCH // 4


def complete(options: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """The options with all that the folder suggests, said aloud; CIFAR-10's are left as they are.

    Beside them the names of the options that only a trial can choose (see `fitting.trial`).

    Raises:
        ConfigError: an option has a value that cannot work.
        DataError: the folder cannot be trained on.
    """
    check_options(options)
    options = with_meant(options)
    if options.get("backbone"):
        with quiet_start():
            from training.networks import backbone  # starts TensorFlow: only Keras has the names
        backbone.require_name(options["backbone"])
    folder = options.get("data")
    if folder is None or options["dataset"] != "folder":
        return options, frozenset()
    found = survey(folder)
    say(describe(found))
    wanted = suggestions(found, options)
    if wanted:
        words = ", ".join(
            f"{name.replace('_', ' ')} {publishable(value)}" for name, value in wanted.items()
        )
        say(f"chosen to suit them: {words}")
    if wanted.get("architecture") == PRETRAINED:
        say(
            f"{PRETRAINED} starts from what it learned on ImageNet, which wins where images are "
            f"fewer than {FEW} or have {PRETRAINED_SIDE} pixels and more; --architecture small "
            "learns from these images alone"
        )
    undecided = TRIED - options.keys() - wanted.keys()
    if options.get("mirrored_filters"):  # which says that left and right mean nothing
        undecided -= {"flip"}
    return {**options, **wanted}, undecided
