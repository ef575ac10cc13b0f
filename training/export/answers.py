"""A model's answers to a folder of images.

Images are decoded and asked batch by batch, so a folder of any size takes the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier, Outputs
from training.data.decoding import decoded
from training.data.folders import Listing, list_images, parts
from training.errors import DataError
from training.export.seen import NOTHING, Seen
from training.progress import name_some, say

BATCH = 100


@dataclass(frozen=True)
class Answers:
    """What a model says to the readable images of a folder.

    `labels`: the model's, in its order. `paths`: [N]. `targets`: int64 [N], what the folder says,
    as indices into `labels`. `probabilities`: float32 [N, labels]. `unreadable`: files left out,
    each with the reason. `folder`: what the paths are below of. `is_test`: whether the folder
    has test images apart from others. `left_out`: how many others the model was trained on.
    `is_seen`: whether it was trained on all of these. `familiarity`: of each image, None of a model
    without it.
    """

    labels: tuple[str, ...]
    folder: Path
    is_test: bool
    paths: tuple[Path, ...]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    unreadable: tuple[str, ...]
    left_out: int = 0
    is_seen: bool = False
    familiarity: list[float] | None = None

    @property
    def said(self) -> NDArray[np.int64]:
        """The most probable label of each image."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Its probability."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether it is what the folder says."""
        return np.asarray(self.said == self.targets)

    @property
    def accuracy(self) -> float:
        """The part that is right, 0..1."""
        return float(self.is_right.mean())

    def name(self, index: int) -> str:
        """The file's name below the folder."""
        return self.paths[index].relative_to(self.folder).as_posix()


def ask(
    classifier: Classifier, data: Path, *, strict: bool = False, seen: Seen = NOTHING
) -> Answers:
    """The model's answers to a folder: to its test images where it has them apart, else to all.

    Images that are `seen` are named and left out, unless there are no others.

    Raises:
        DataError: nothing readable, labels that the model does not know or, when strict, any file
            that is unreadable.
    """
    labels = classifier.card.labels
    test = parts(data).get("test")
    listing = list_images(test or data, strict=strict, known=labels)
    index = np.array([labels.index(label) for label in listing.labels])
    if classifier.card.activation == "sigmoid":
        say(
            "the model gives each label a probability that stands alone (activation sigmoid): "
            "images are judged by the most probable one, as folders give them one label each"
        )
    kept, old, outputs, broken = _answers(classifier, listing, seen, strict=strict)
    if not kept:
        raise DataError(f"none of the {len(listing.paths)} images of {data} can be read")
    _tell_seen([listing.paths[i] for i, is_old in zip(kept, old, strict=True) if is_old], len(kept))
    rows = np.flatnonzero(np.logical_not(old) | all(old))
    chosen = np.array(kept)[rows]
    shares = familiarity_of(outputs)
    return Answers(
        labels,
        listing.folder,
        test is not None,
        tuple(listing.paths[i] for i in chosen),
        index[listing.targets[chosen]],
        np.concatenate([one.probabilities for one in outputs])[rows],
        tuple(broken),
        left_out=len(kept) - len(rows),
        is_seen=all(old),
        familiarity=[shares[i] for i in rows] if shares else None,
    )


def familiarity_of(batches: Sequence[Outputs]) -> list[float] | None:
    """That of the images of all batches; None of a model without it."""
    return [share for one in batches for share in one.familiarity or ()] or None


def _tell_seen(paths: Sequence[Path], images: int) -> None:
    if len(paths) == images:
        say(
            f"warning: the model was trained with all of these {images} images: the figures tell "
            "how well it knows them, not how well it will do on others"
        )
        return
    title = f"{len(paths)} of {images} images are left out, as the model was trained with them"
    name_some(title, [str(path) for path in paths])


def _answers(
    classifier: Classifier, listing: Listing, seen: Seen, *, strict: bool
) -> tuple[list[int], list[bool], list[Outputs], list[str]]:
    """Which files are readable, which are seen, the answers to them, what is wrong with others."""
    kept: list[int] = []
    old: list[bool] = []
    answers: list[Outputs] = []
    broken: list[str] = []
    images: list[NDArray[np.uint8]] = []
    resize = classifier.card.input.resize
    with closing(decoded(listing.paths, classifier.input_size, resize, "images")) as results:
        for i, result in enumerate(results):
            if isinstance(result, str):
                path = listing.paths[i]
                if strict:
                    raise DataError(f"{path}: {result} (--strict)")
                broken.append(f"{path.relative_to(listing.folder).as_posix()}: {result}")
            else:
                kept.append(i)
                old.append(seen.has(listing.paths[i], result.digest))
                images.append(result.image.pixels)
            if len(images) == BATCH:
                answers.append(classifier.run(np.stack(images)))
                images = []
    if images:
        answers.append(classifier.run(np.stack(images)))
    return kept, old, answers, broken
