"""What can be counted in a model's answers to a folder of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.export.answers import Answers
from training.intervals import Z95


def confusion(answers: Answers) -> NDArray[np.int64]:
    """How many images of each label [rows] were taken for each [columns]; int64."""
    count = len(answers.labels)
    pairs = answers.targets * count + answers.said
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


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
class Paired:
    """Two models on the same images: how many only the second answers rightly, how many the first.

    `interval`: what the second's accuracy has more than the first's, 95 % sure, -1..1.
    """

    gained: int
    lost: int
    interval: tuple[float, float]


def paired(first: Answers, second: Answers) -> Paired:
    """The second model's answers beside the first's, on the images that both could read.

    Source: A. Agresti and Y. Min, Simple Improved Confidence Intervals for Comparing Matched
    Proportions (2005): Wald's interval with half an image more in each of the four cells.
    """
    right = dict(zip(second.paths, second.is_right, strict=True))
    pairs = [
        (bool(a), bool(right[path]))
        for path, a in zip(first.paths, first.is_right, strict=True)
        if path in right
    ]
    gained, lost = pairs.count((False, True)), pairs.count((True, False))
    images = len(pairs) + 2
    difference = (gained - lost) / images
    half = Z95 * math.sqrt(gained + lost + 1 - images * difference**2) / images
    return Paired(gained, lost, (difference - half, difference + half))
