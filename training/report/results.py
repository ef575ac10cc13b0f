"""The page's part on how good the model is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.inference.contract import ModelCard
from service.inference.errors import ImageError
from training.errors import RunError
from training.export.answers import Answers
from training.export.calibration import calibration_error
from training.export.evaluation import per_label
from training.report import charts, counting, page, pictures
from training.report.page import percent

LOG = "log.csv"
TABLE_LABELS = 25  # more are shown as one picture
MISTAKES = 18
CONFUSIONS = 10
UNREADABLE = 20

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
    """All results."""
    return page.join(
        [
            _what(answers),
            _tiles(card, answers),
            _curves(log),
            _reliability(answers),
            _labels(answers),
            _confusion(answers),
            _mistakes(card, answers),
            _unreadable(answers),
        ]
    )


def _what(answers: Answers) -> Markup:
    folder = answers.folder.parent if answers.is_test else answers.folder
    shown = page.name(folder.resolve().name)
    if answers.is_test:
        text = Markup("Measured on the {} test images of {}.")
    else:
        text = Markup(
            "Measured on all {} images of {}. If the network was trained on some of them, "
            "it knows those, and on new pictures it will do worse than this page says."
        )
    note = "" if answers.is_test else "note"
    return page.paragraph(text.format(_count(len(answers.paths)), shown), note)


def _tiles(card: ModelCard, answers: Answers) -> Markup:
    images, right = len(answers.paths), int(answers.is_right.sum())
    low, high = counting.accuracy_interval(right, images)
    error = calibration_error(answers.probabilities, answers.targets)
    mean = float(answers.confidence.mean())
    tiles = [
        ("accuracy", percent(answers.accuracy), f"{percent(low)} to {percent(high)}, 95 % sure"),
        ("calibration error", percent(error), f"promised {percent(mean)} on average"),
        ("images", _count(images), f"{_count(images - right)} answered wrongly"),
        (
            "on its card",
            percent(card.figures.accuracy),
            f"accuracy, {_count(card.figures.images)} images",
        ),
    ]
    items = (
        Markup("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>").format(*tile) for tile in tiles
    )
    return Markup('<dl class="tiles">{}</dl>').format(page.join(items))


def _count(number: int) -> str:
    return f"{number:,}"


def _curves(log: Log | None) -> Markup:
    title = page.heading("Over time")
    if log is None:
        text = (
            "No curves: what the training wrote beside the model is not here. "
            "Give the folder that has its log.csv with --run."
        )
        return page.join([title, page.paragraph(text, "soft")])
    figures = []
    for column, what, place in (
        ("loss", "loss", "upper right"),
        ("accuracy", "accuracy", "lower right"),
        ("learning_rate", "learning rate", "upper right"),
    ):
        series = {"training": log.get(column), "validation": log.get(f"validation_{column}")}
        kept = {key: values for key, values in series.items() if values}
        if kept:
            drawn = charts.curves(log["epoch"], kept, what, place)
            caption = _last(what, kept)
            figures.append(page.figure(page.chart(drawn, f"{what} over epochs"), caption, "card"))
    about = (
        "Training values are those of the training steps, with everything that makes them harder "
        "(changed pictures, dropout): they can be worse than the validation's."
    )
    return page.join([title, page.paragraph(about, "soft"), page.division("charts", figures)])


def _last(what: str, series: dict[str, list[float]]) -> str:
    if len(series) == 1:
        (values,) = series.values()
        return f"{what}: at most {max(values):.3g}, {values[-1]:.2g} at the end"
    ends = ", ".join(f"{values[-1]:.3f} {name}" for name, values in series.items())
    return f"{what} at the end: {ends}"


def _reliability(answers: Answers) -> Markup:
    bins = counting.reliability(answers)
    error = calibration_error(answers.probabilities, answers.targets)
    about = (
        f"Images are sorted by the probability of the answer and cut into {len(bins)} equal "
        "parts. A point on the dashed line keeps its promise: of answers given 80 %, 80 % are "
        "right. Below it the network is too sure of itself, above it too modest."
    )
    caption = (
        f"Expected calibration error {percent(error, 2)}: the mean distance from the line, "
        f"over {len(bins)} parts of about {_count(round(len(answers.paths) / len(bins)))} images."
    )
    drawn = page.chart(charts.reliability(bins), "accuracy over promised probability")
    rows = page.join(
        Markup(
            '<tr><td class="number">{}</td><td class="number">{}</td>'
            '<td class="number">{}</td></tr>'
        ).format(percent(b.confidence), percent(b.accuracy), _count(b.images))
        for b in bins
    )
    table = Markup(
        '<div class="sheet scroll"><table class="rows"><thead><tr><th class="number">promised</th>'
        '<th class="number">kept</th><th class="number">images</th></tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(rows)
    return page.join(
        [
            page.heading("Do the probabilities mean what they say?"),
            page.paragraph(about),
            page.division("charts", [page.figure(drawn, caption, "card"), table]),
        ]
    )


def _labels(answers: Answers) -> Markup:
    rows = []
    found = per_label(answers.said, answers.targets, answers.labels)
    for number, (label, row) in enumerate(found.items(), start=1):
        cells = [_share_cell(row.precision), _share_cell(row.recall)]
        rows.append(
            Markup(
                '<tr><td class="number soft">{}</td><th class="name">{}</th>{}'
                '<td class="number">{}</td></tr>'
            ).format(number, page.clamped(label), page.join(cells), _count(row.support))
        )
    about = (
        "Precision: of the images that were called so, the part that is so. Recall: of the images "
        "that are so, the part that was called so."
    )
    table = Markup(
        '<div class="scroll"><table class="rows"><thead><tr><th></th><th>label</th>'
        '<th class="number bars">precision</th><th class="number bars">recall</th>'
        '<th class="number">images</th></tr></thead><tbody>{}</tbody></table></div>'
    ).format(page.join(rows))
    if len(rows) > TABLE_LABELS:
        table = Markup("<details><summary>All {} labels</summary>{}</details>").format(
            len(rows), table
        )
    return page.join([page.heading("Label by label"), page.paragraph(about, "soft"), table])


def _share_cell(share: float | None) -> Markup:
    if share is None:
        return Markup('<td class="number empty">-</td>')
    return Markup('<td class="number">{}{}</td>').format(percent(share), page.bar(share))


def _confusion(answers: Answers) -> Markup:
    counts = counting.confusion(answers)
    about = "Rows are what the images show, columns what the network said."
    few = len(answers.labels) <= TABLE_LABELS
    matrix = _matrix(answers.labels, counts) if few else _large_matrix(counts)
    return page.join(
        [
            page.heading("What is taken for what"),
            page.paragraph(about, "soft"),
            matrix,
            _frequent(answers.labels, counts),
        ]
    )


def _matrix(labels: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    head = page.join(
        Markup('<th><span class="turned">{}</span></th>').format(page.clamped(label))
        for label in labels
    )
    sums = np.maximum(counts.sum(axis=1), 1)
    rows = []
    for i, label in enumerate(labels):
        cells = (
            Markup('<td class="{}" style="--share:{:.3f}">{}</td>').format(
                ("right" if i == j else "wrong") if counts[i, j] else "empty",
                counts[i, j] / sums[i],
                counts[i, j] or "·",
            )
            for j in range(len(labels))
        )
        row = Markup("<tr><th>{}</th>{}</tr>").format(page.clamped(label), page.join(cells))
        rows.append(row)
    return Markup(
        '<div class="scroll"><table class="matrix"><thead><tr><td></td>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(head, page.join(rows))


def _large_matrix(counts: NDArray[np.int64]) -> Markup:
    drawn = page.chart(charts.confusion(counts), "confusion matrix", 560)
    caption = "Numbers as in the table of labels. Shades are stretched, so that little is seen too."
    return page.division("charts", [page.figure(drawn, caption, "card")])


def _frequent(labels: Sequence[str], counts: NDArray[np.int64]) -> Markup:
    pairs = counting.frequent_confusions(counts, CONFUSIONS)
    if not pairs:
        return page.paragraph("Nothing was taken for anything else.")
    rows = page.join(
        Markup(
            '<tr><th class="name">{}</th><th class="name">{}</th><td class="number">{}</td>'
            '<td class="number">{}</td></tr>'
        ).format(
            page.clamped(labels[shown]),
            page.clamped(labels[said]),
            _count(times),
            percent(times / counts[shown].sum()),
        )
        for shown, said, times in pairs
    )
    return Markup(
        "<h3>The most frequent confusions</h3>"
        '<div class="scroll"><table class="rows"><thead><tr><th>shown</th><th>said</th>'
        '<th class="number">images</th><th class="number">share</th></tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(rows)


def _mistakes(card: ModelCard, answers: Answers) -> Markup:
    title = page.heading("Surest mistakes")
    wrong = counting.confident_mistakes(answers, MISTAKES)
    if not wrong:
        return page.join([title, page.paragraph("There are none.")])
    about = (
        "Wrong answers with the highest probability. Some of them are the network's fault, some "
        "may be the label's."
    )
    cards = page.division("photos", (_mistake(card, answers, index) for index in wrong))
    return page.join([title, page.paragraph(about, "soft"), cards])


def _mistake(card: ModelCard, answers: Answers, index: int) -> Markup:
    said, shown = int(answers.said[index]), int(answers.targets[index])
    row = answers.probabilities[index]
    caption = Markup(
        '<span class="clamp">{} said <b>{}</b></span><span class="clamp">{} is <b>{}</b></span>'
        '<span class="file">{}</span>'
    ).format(
        percent(float(row[said])),
        page.name(answers.labels[said]),
        percent(float(row[shown])),
        page.name(answers.labels[shown]),
        page.clamped(answers.name(index)),
    )
    try:
        shot = pictures.read(answers.paths[index], card).shown
    except (ImageError, OSError):  # gone since it was asked
        return page.figure(Markup("<p>(no longer readable)</p>"), caption, "card")
    return page.figure(page.picture(shot, answers.name(index)), caption, "card")


def _unreadable(answers: Answers) -> Markup:
    if not answers.unreadable:
        return Markup()
    lines = page.join(
        Markup("<li>{}</li>").format(page.name(line)) for line in answers.unreadable[:UNREADABLE]
    )
    rest = len(answers.unreadable) - UNREADABLE
    more = Markup("<li>and {} more</li>").format(rest) if rest > 0 else Markup()
    return page.join(
        [
            page.heading(f"Unreadable and left out: {_count(len(answers.unreadable))}"),
            Markup("<ul>{}{}</ul>").format(lines, more),
        ]
    )
