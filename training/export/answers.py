"""A model's answers to a folder of images.

Images are decoded and asked batch by batch, so a folder of any size takes the same memory.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from training.data.decoding import decoded
from training.data.folders import Listing, list_images, parts
from training.errors import DataError

BATCH = 100


@dataclass(frozen=True)
class Answers:
    """What a model says to the readable images of a folder.

    `labels`: the model's, in its order. `paths`: [N]. `targets`: int64 [N], what the folder says,
    as indices into `labels`. `probabilities`: float32 [N, labels]. `unreadable`: files left out,
    each with the reason. `folder`: what the paths are below of. `is_test`: whether the folder
    has test images apart from others.
    """

    labels: tuple[str, ...]
    folder: Path
    is_test: bool
    paths: tuple[Path, ...]
    targets: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    unreadable: tuple[str, ...]

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


def ask(classifier: Classifier, data: Path, *, strict: bool = False) -> Answers:
    """The model's answers to a folder: to its test images where it has them apart, else to all.

    Raises:
        DataError: nothing readable, labels that the model does not know or, when strict, any file
            that is unreadable.
    """
    labels = classifier.card.labels
    test = parts(data).get("test")
    listing = list_images(test or data)
    unknown = sorted(set(listing.labels) - set(labels))
    if unknown:
        raise DataError(f"{listing.folder} has labels that the model does not know: {unknown}")
    index = np.array([labels.index(label) for label in listing.labels])
    kept, probabilities, broken = _answers(classifier, listing, strict=strict)
    if not kept:
        raise DataError(f"none of the {len(listing.paths)} images of {data} can be read")
    return Answers(
        labels,
        listing.folder,
        test is not None,
        tuple(listing.paths[i] for i in kept),
        index[listing.targets[kept]],
        np.concatenate(probabilities),
        tuple(broken),
    )


def _answers(
    classifier: Classifier, listing: Listing, *, strict: bool
) -> tuple[list[int], list[NDArray[np.float32]], list[str]]:
    """Which files are readable, the answers to them, and what is wrong with the others."""
    kept: list[int] = []
    answers: list[NDArray[np.float32]] = []
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
                images.append(result)
            if len(images) == BATCH:
                answers.append(classifier.predict(np.stack(images)))
                images = []
    if images:
        answers.append(classifier.predict(np.stack(images)))
    return kept, answers, broken
