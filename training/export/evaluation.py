"""Figures of an exported file, measured through the code that serves it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier, Outputs
from service.inference.contract import Figures, LabelFigures, ModelCard
from training.calibration import calibration_error, reliability
from training.data.decoding import tell_unreadable
from training.data.pixels import Images
from training.export.answers import ask, familiarity_of
from training.export.seen import seen_by
from training.intervals import share_interval
from training.progress import bar

BATCH = 100


def outputs(classifier: Classifier, images: Images) -> Outputs:
    """What the model answers to uint8 [N, H, W, 3], batch by batch with a bar."""
    starts = range(0, len(images), BATCH)
    batches = bar(starts, desc="measuring the file", unit="batch")
    found = [classifier.run(images[i : i + BATCH]) for i in batches]
    probabilities = np.concatenate([one.probabilities for one in found])
    return Outputs(probabilities, familiarity_of(found))


def predict(classifier: Classifier, images: Images) -> NDArray[np.float32]:
    """Probabilities alone, float32 [N, labels]."""
    return outputs(classifier, images).probabilities


def figures(
    probabilities: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    *,
    split: str,
    parity: float | None,
) -> Figures:
    """What the card says of these answers, [N, labels], to images that show `targets`, [N]."""
    answers = probabilities.argmax(axis=1)
    return Figures(
        split=split,
        images=len(targets),
        accuracy=float((answers == targets).mean()),
        calibration_error=calibration_error(probabilities, targets),
        parity=parity,
        per_label=per_label(answers, targets, labels),
        reliability=reliability(probabilities.max(axis=1), answers == targets),
    )


def per_label(
    answers: NDArray[np.int64], targets: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, LabelFigures]:
    """Of what was called so, how much was (precision); of what was so, how much was found."""
    return {
        label: _label_figures(answers == index, targets == index)
        for index, label in enumerate(labels)
    }


def _label_figures(answered: NDArray[np.bool_], shown: NDArray[np.bool_]) -> LabelFigures:
    right = int((answered & shown).sum())
    return LabelFigures(
        precision=right / int(answered.sum()) if answered.any() else None,
        recall=right / int(shown.sum()) if shown.any() else None,
        support=int(shown.sum()),
    )


def evaluate(options: argparse.Namespace) -> Figures:
    """Figures of the model file `options.model` on the images in `options.data`.

    A folder with `train/` and `test/` gives its test images, any other all of its images but for
    those that the model was trained on.

    Raises:
        DataError: the images cannot be read, or show other labels than the model knows.
        service.inference.errors.ModelError: the file is no usable model.
    """
    classifier = Classifier.load(options.model)
    card = classifier.card
    seen = seen_by(options.model, card, options.data)
    found = ask(classifier, options.data, strict=options.strict, seen=seen)
    tell_unreadable(f"{len(found.unreadable)} images are unreadable and left out", found.unreadable)
    split = "seen" if found.is_seen else "test" if found.is_test or found.left_out else "all"
    return figures(
        found.probabilities, found.targets, card.labels, split=split, parity=card.figures.parity
    )


def interval(found: Figures) -> tuple[float, float]:
    """Where the accuracy on many more such images lies, 95 % sure.

    Raises ValueError where none was measured.
    """
    if found.accuracy is None:
        raise ValueError("no accuracy was measured")
    return share_interval(round(found.accuracy * found.images), found.images)


def accuracy_text(found: Figures) -> str:
    """The accuracy, its interval and the images in a line, or that there are none."""
    if found.accuracy is None:
        return "nothing was measured"
    low, high = interval(found)
    return (
        f"accuracy {100 * found.accuracy:.2f} % ({100 * low:.1f} to {100 * high:.1f}, 95 % sure) "
        f"on {found.images} {found.split} images"
    )


def unfamiliar_share(classifier: Classifier, shares: Sequence[float] | None) -> float | None:
    """Which part of these familiarities is below the card's threshold, 0..1; None of none."""
    if not shares:
        return None
    return sum(map(classifier.is_unfamiliar, shares)) / len(shares)


def familiarity_text(card: ModelCard) -> str:
    """A line on familiarity, with its end; empty of a model without it."""
    told = card.familiarity
    if told is None:
        return ""
    line = f"  unfamiliar below {told.threshold:g} of {told.held_back} held-back images"
    if told.false_alarms is not None:
        line += f", as {told.false_alarms:.2%} of the {card.figures.split} images are"
    return line + "\n"


def examples_text(card: ModelCard) -> str:
    """A line on the images in the file, with its end; empty of a model without."""
    if not card.examples:
        return ""
    return f"  {len(card.examples)} test images are in the file, for those who try it\n"


def table(found: Figures) -> str:
    """The figures as lines to read."""
    low, high = interval(found)
    lines = [
        f"images             {found.images} ({found.split})",
        f"accuracy           {found.accuracy:.4f} ({low:.4f} to {high:.4f}, 95 % sure)",
        f"calibration error  {found.calibration_error:.4f}",
        "",
        "precision  recall  images  label",
    ]
    for label, row in found.per_label.items():
        precision, recall = (
            "-" if value is None else f"{value:.3f}" for value in (row.precision, row.recall)
        )
        lines.append(f"{precision:>9}  {recall:>6}  {row.support:>6}  {label}")
    return "\n".join(lines)
