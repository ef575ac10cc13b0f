"""The page's parts on how good a model is, and which of several is better."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.inference.contract import ModelCard
from service.inference.errors import ImageError
from training.calibration import calibration_error, equal_mass
from training.errors import RunError
from training.export.answers import Answers
from training.export.evaluation import per_label
from training.intervals import share_interval
from training.report import charts, counting, images, rendering
from training.report.charts import Chart

LOG = "log.csv"
TABLE_LABELS = 25  # more are shown as one image
MISTAKES = 18
CONFUSIONS = 10

Log = dict[str, list[float]]


def read_log(folder: Path) -> Log:
    """A run folder's log: the columns that hold numbers only, by name.

    Raises:
        RunError: there is none, or it cannot be read as one.
    """
    path = folder / LOG
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [*rows[0]] if rows else []
        log = {c: [float(row[c]) for row in rows] for c in columns if _is_number(rows[0][c])}
    except OSError as error:
        raise RunError(f"log {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"log {path} cannot be read: {error}") from error
    if "epoch" not in log:
        raise RunError(f"log {path} has no epochs")
    return log


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def section(card: ModelCard, answers: Answers, log: Log | None) -> Markup:
    """All results of one model."""
    folder = answers.folder.parent if answers.is_test else answers.folder
    count, right = len(answers.paths), int(answers.is_right.sum())
    bins = equal_mass(answers.confidence, answers.is_right)
    return rendering.render(
        "results.html",
        card=card,
        folder=folder.resolve().name,
        is_test=answers.is_test,
        is_seen=answers.is_seen,
        left_out=answers.left_out,
        images=count,
        wrong=count - right,
        accuracy=answers.accuracy,
        interval=share_interval(right, count),
        error=_calibration_error(answers),
        confidence=float(answers.confidence.mean()),
        curves=None if log is None else _curves(log),
        reliability=charts.reliability(bins),
        bins=[(each.mean, each.right, each.images) for each in bins],
        per_label=_per_label(answers),
        most=TABLE_LABELS,
        mistakes=_mistakes(card, answers),
        unreadable=answers.unreadable,
        **_confusion(answers),
    )


def comparison_section(candidates: Sequence[tuple[Path, Answers]]) -> Markup:
    """Model files and their answers: each one's figures, and its difference from the first."""
    figures = [
        (
            number,
            path.name,
            answers.accuracy,
            rendering.percent(_calibration_error(answers), 2),
            len(answers.paths),
            f"{path.stat().st_size / 1e6:.1f}\N{NO-BREAK SPACE}MB",
        )
        for number, (path, answers) in enumerate(candidates, start=1)
    ]
    (_, first), *others = candidates
    pairs = []
    for number, (path, answers) in enumerate(others, start=2):
        found = counting.paired(first, answers)
        low, high = (100 * share for share in found.interval)
        between = f"{low:+.1f} to {high:+.1f} points".replace(" ", "\N{NO-BREAK SPACE}")
        pairs.append((number, path.name, found.gained, found.lost, between))
    return rendering.render("comparison.html", figures=figures, pairs=pairs)


def _calibration_error(answers: Answers) -> float:
    return calibration_error(answers.probabilities, answers.targets)


def _curves(log: Log) -> list[tuple[str, Chart, dict[str, list[float]]]]:
    """Of each value that was logged: its name, its chart, its series by name."""
    found = []
    for column, what, place in (
        ("loss", "loss", "upper right"),
        ("accuracy", "accuracy", "lower right"),
        ("learning_rate", "learning rate", "upper right"),
    ):
        series = {"training": log.get(column), "validation": log.get(f"validation_{column}")}
        kept = {key: values for key, values in series.items() if values}
        if kept:
            found.append((what, charts.curves(log["epoch"], kept, what, place), kept))
    return found


def _per_label(answers: Answers) -> list[tuple[int, str, float | None, float | None, int]]:
    found = per_label(answers.said, answers.targets, answers.labels)
    return [
        (number, label, row.precision, row.recall, row.support)
        for number, (label, row) in enumerate(found.items(), start=1)
    ]


def _confusion(answers: Answers) -> dict[str, Any]:
    """The confusion matrix, as a table or as a chart, and its largest entries."""
    counts, labels = counting.confusion(answers), answers.labels
    is_large = len(labels) > TABLE_LABELS
    pairs = counting.frequent_confusions(counts, CONFUSIONS)
    return {
        "labels": labels,
        "matrix": [] if is_large else _matrix(counts),
        "large_matrix": charts.confusion(counts) if is_large else None,
        "confusions": [
            (labels[shown], labels[said], times, times / int(counts[shown].sum()))
            for shown, said, times in pairs
        ],
    }


def _matrix(counts: NDArray[np.int64]) -> list[list[tuple[int, float]]]:
    """Rows of (images, share of the row)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        list(zip(row.tolist(), part.tolist(), strict=True))
        for row, part in zip(counts, shares, strict=True)
    ]


def _mistakes(card: ModelCard, answers: Answers) -> list[dict[str, Any]]:
    surest = counting.confident_mistakes(answers, MISTAKES)
    return [_mistake(card, answers, index) for index in surest]


def _mistake(card: ModelCard, answers: Answers, index: int) -> dict[str, Any]:
    answer, truth = int(answers.said[index]), int(answers.targets[index])
    row = answers.probabilities[index]
    try:
        photo = images.read(answers.paths[index], card)
    except (ImageError, OSError):  # gone since it was asked
        photo = None
    return {
        "photo": photo,
        "file": answers.name(index),
        "answer": answers.labels[answer],
        "truth": answers.labels[truth],
        "probability": float(row[answer]),
        "of_truth": float(row[truth]),
    }
