"""A model's answers to a folder of images, and what can be counted in them.

Images are decoded and asked batch by batch, so a folder of any size takes the same memory.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.errors import ImageError
from service.inference.imaging import decode_image
from training.calibration import BINS
from training.datasets import is_split, list_images
from training.errors import DataError
from training.progress import bar

BATCH = 100
_ADDRESS = re.compile(r" <[\w.]+ object at 0x\w+>")  # Pillow names the object it read from


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


def ask(classifier: Classifier, data: Path) -> Answers:
    """The model's answers to a folder: to its test images where it has them apart, else to all.

    Raises:
        DataError: nothing readable, or labels that the model does not know.
    """
    labels = classifier.card.labels
    is_test = is_split(data)
    listing = list_images(data / "test" if is_test else data)
    unknown = sorted(set(listing.labels) - set(labels))
    if unknown:
        raise DataError(f"{listing.folder} has labels that the model does not know: {unknown}")
    index = np.array([labels.index(label) for label in listing.labels])
    kept, answers, broken = _answers(classifier, listing.folder, listing.paths)
    if not kept:
        raise DataError(f"none of the {len(listing.paths)} images of {data} can be read")
    return Answers(
        labels,
        listing.folder,
        is_test,
        tuple(listing.paths[i] for i in kept),
        index[listing.targets[kept]],
        np.concatenate(answers),
        tuple(broken),
    )


def _answers(
    classifier: Classifier, folder: Path, paths: Sequence[Path]
) -> tuple[list[int], list[NDArray[np.float32]], list[str]]:
    """Which paths are readable, the answers to them, and what is wrong with the others."""
    kept: list[int] = []
    answers: list[NDArray[np.float32]] = []
    broken: list[str] = []
    for first, batch in _batches(classifier, paths):
        images = []
        for i, image in enumerate(batch, start=first):
            if isinstance(image, str):
                broken.append(f"{paths[i].relative_to(folder).as_posix()}: {image}")
            else:
                kept.append(i)
                images.append(image)
        if images:
            answers.append(classifier.predict(np.stack(images)))
    return kept, answers, broken


def _batches(
    classifier: Classifier, paths: Sequence[Path]
) -> Iterator[tuple[int, list[NDArray[np.uint8] | str]]]:
    """Decoded images, or why not, BATCH at a time; the next batches are decoded meanwhile."""
    size, resize = classifier.input_size, classifier.card.input.resize

    def read(first: int) -> list[NDArray[np.uint8] | str]:
        results: list[NDArray[np.uint8] | str] = []
        for path in paths[first : first + BATCH]:
            try:
                results.append(decode_image(path.read_bytes(), size, resize).pixels)
            except (ImageError, OSError) as error:
                results.append(_ADDRESS.sub("", str(error)))
        return results

    firsts = range(0, len(paths), BATCH)
    workers = os.cpu_count() or 1
    waiting: deque[tuple[int, Future[list[NDArray[np.uint8] | str]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for first in bar(firsts, desc="asking", unit="batch"):
            waiting.append((first, pool.submit(read, first)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def confusion(answers: Answers) -> NDArray[np.int64]:
    """How many images of each label [rows] were taken for each [columns]; int64."""
    count = len(answers.labels)
    pairs = answers.targets * count + answers.said
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


@dataclass(frozen=True)
class LabelResult:
    """One label's row: None where there is nothing to divide by."""

    label: str
    images: int
    precision: float | None
    recall: float | None


def per_label(answers: Answers) -> list[LabelResult]:
    """Of what was called so, how much was (precision); of what was so, how much was found."""
    counts = confusion(answers)
    right, shown, said = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        LabelResult(
            label,
            int(shown[i]),
            float(right[i] / said[i]) if said[i] else None,
            float(right[i] / shown[i]) if shown[i] else None,
        )
        for i, label in enumerate(answers.labels)
    ]


def frequent_confusions(counts: NDArray[np.int64], most: int) -> list[tuple[int, int, int]]:
    """(shown, said, images), the most frequent first, wrong answers alone."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = (divmod(int(i), len(counts)) for i in order)
    return [(row, column, int(wrong[row, column])) for row, column in places if wrong[row, column]]


def confident_mistakes(answers: Answers, most: int) -> list[int]:
    """Indices of the wrong answers, the surest first."""
    wrong = np.flatnonzero(~answers.is_right)
    order = np.argsort(-answers.confidence[wrong], kind="stable")
    return [int(i) for i in wrong[order[:most]]]


def typical_successes(answers: Answers, most: int) -> list[int]:
    """Indices of right answers, one for each label in turn: the label's median in confidence."""
    found = []
    for label in range(len(answers.labels)):
        right = np.flatnonzero(answers.is_right & (answers.targets == label))
        if len(right):
            order = np.argsort(-answers.confidence[right], kind="stable")
            found.append(int(right[order[len(order) // 2]]))
    if len(found) <= most:
        return found
    return [found[round(i)] for i in np.linspace(0, len(found) - 1, most)]


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence: what was promised, what was kept, how many."""

    confidence: float
    accuracy: float
    images: int


def reliability(answers: Answers, bins: int = BINS) -> list[Bin]:
    """Equal parts of the images in order of confidence, as `calibration_error` takes them."""
    order = np.argsort(answers.confidence, kind="stable")
    return [
        Bin(
            float(answers.confidence[part].mean()),
            float(answers.is_right[part].mean()),
            len(part),
        )
        for part in np.array_split(order, min(bins, len(order)))
    ]


def accuracy_interval(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval: where the accuracy on many more such images would lie."""
    z = 1.959964
    centre = (right + z * z / 2) / (images + z * z)
    half = z / (images + z * z) * math.sqrt(right * (images - right) / images + z * z / 4)
    return centre - half, centre + half
