"""The page's part on important pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.explanation import PASSES, covered, importance
from service.inference.heat import heat
from training.progress import bar
from training.report import images, rendering
from training.report.images import Photograph

KEPT = 1 / 3  # of the pixels are shown alone, the most important ones


@dataclass(frozen=True)
class Subject:
    """An image and the label to be explained: its index.

    `file`: the file's name, "" where it does not matter. `truth`: what the folder says where the
    answer is wrong, else "".
    """

    photo: Photograph
    label: int
    file: str = ""
    truth: str = ""


def section(classifier: Classifier, subjects: Sequence[Subject]) -> Markup:
    """Each image, its map of importance, and the answer to its most important pixels alone."""
    found = [
        _explained(classifier, subject)
        for subject in bar(subjects, desc="important pixels", unit="image")
    ]
    return rendering.render("importance.html", subjects=found, passes=PASSES, kept=KEPT)


def most_important(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The KEPT pixels with the largest importance, bool [H, W]."""
    return np.asarray(values >= np.quantile(values, 1 - KEPT))


def _explained(classifier: Classifier, subject: Subject) -> dict[str, Any]:
    photo, label = subject.photo, subject.label
    found = importance(
        classifier.predict, photo.pixels, label, activation=classifier.card.activation
    )
    best = most_important(found)
    parts = covered(photo.pixels, np.stack([np.ones_like(found), best.astype(np.float32)]))
    whole, alone = classifier.predict(parts)[:, label]
    return {
        "subject": subject,
        "label": classifier.card.labels[label],
        "whole": float(whole),
        "alone": float(alone),
        "heat": heat(photo.shown, found),
        "best": images.kept(photo, best),
    }
