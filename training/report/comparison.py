"""The page's part on several models that answered the same folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from training.export.answers import Answers
from training.export.calibration import calibration_error
from training.report import counting, page
from training.report.page import percent

Candidate = tuple[Path, Answers]  # a model file, and what it says


def section(candidates: Sequence[Candidate]) -> Markup:
    """Each model's figures, and what the later ones know that the first does not."""
    about = (
        "All models saw the same images, so they are compared image by image: what both know, or "
        "neither, says nothing about which is better. The interval is where the difference on "
        "many more such images would lie, 95 % sure; one with 0 in it may be chance."
    )
    return page.join(
        [
            _figures(candidates),
            page.heading("Image by image, against the first"),
            page.paragraph(about, "soft"),
            _pairs(candidates),
        ]
    )


def _figures(candidates: Sequence[Candidate]) -> Markup:
    rows = []
    for number, (path, answers) in enumerate(candidates, start=1):
        images = len(answers.paths)
        cells = (
            percent(answers.accuracy),
            percent(calibration_error(answers.probabilities, answers.targets), 2),
            f"{images:,}",
            f"{path.stat().st_size / 1e6:.1f}\N{NO-BREAK SPACE}MB",
        )
        rows.append(_row(number, path, cells))
    return _table(("model", "accuracy", "calibration error", "images", "size"), rows)


def _pairs(candidates: Sequence[Candidate]) -> Markup:
    (_, first), *others = candidates
    rows = []
    for number, (path, answers) in enumerate(others, start=2):
        found = counting.paired(first, answers)
        low, high = (100 * share for share in found.interval)
        between = f"{low:+.1f} to {high:+.1f} points".replace(" ", "\N{NO-BREAK SPACE}")
        cells = (f"{found.gained:,}", f"{found.lost:,}", between)
        rows.append(_row(number, path, cells))
    return _table(
        ("model", "it alone is right", "the first alone is right", "more accurate by"), rows
    )


def _row(number: int, path: Path, cells: Sequence[str]) -> Markup:
    return Markup('<tr><td class="number soft">{}</td><th class="name">{}</th>{}</tr>').format(
        number,
        page.clamped(path.name),
        page.join(Markup('<td class="number">{}</td>').format(cell) for cell in cells),
    )


def _table(heads: Sequence[str], rows: Sequence[Markup]) -> Markup:
    first, *others = heads
    head = page.join(Markup('<th class="number">{}</th>').format(title) for title in others)
    return Markup(
        '<div class="scroll"><table class="rows"><thead><tr><th></th><th>{}</th>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(first, head, page.join(rows))
