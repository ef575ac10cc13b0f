"""python -m service models: what a path holds, and its labels, without HTTP."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import LabelError, ModelError
from service.inference.labels import last_target, move_label
from service.inference.layout import ModelLayout, read_layout, read_model_layout
from service.inference.model_files import model_file, read_model

_REFUSED = 1
_UNUSABLE = 2
_HEAD = ("FOLDER", "VERSION", "LABELS", "CARD")


def run(chosen: Namespace) -> int:
    """Do what the command line asks for; the exit status."""
    if chosen.action == "label":
        return label_version(chosen.path, chosen.label, chosen.version)
    if chosen.action == "rollback":
        return roll_back(chosen.path, chosen.label)
    return list_models(chosen.path)


def list_models(path: Path) -> int:
    """Write the versions of all models to standard output, what cannot be used to standard error.

    Returns:
        The exit status: 0, 1 if a version is refused or a label leads nowhere, 2 if nothing is
        found.
    """
    try:
        layouts = read_layout(path)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return _UNUSABLE
    problems = [problem for layout in layouts for problem in layout.problems]
    rows = [_HEAD]
    for layout in layouts:
        for number in sorted(layout.versions):
            labels = ", ".join(sorted(one for one, to in layout.labels.items() if to == number))
            try:
                card = _opened(layout, number).card
            except ModelError as error:
                problems.append(str(error))
                rows.append((layout.path.name, str(number), labels, "refused"))
            else:
                rows.append((layout.path.name, str(number), labels, card.version))
    sys.stdout.writelines(_table(rows))
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return _REFUSED if problems else 0


def label_version(path: Path, label: str, number: int) -> int:
    """Move a label to a version that can be opened; the exit status: 0, or 2 if it stays."""
    try:
        return _moved(read_model_layout(path), label, number)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return _UNUSABLE


def roll_back(path: Path, label: str) -> int:
    """Move a label to where it led before; the exit status as above."""
    try:
        layout = read_model_layout(path)
        return _moved(layout, label, last_target(layout, label))
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return _UNUSABLE


def _moved(layout: ModelLayout, label: str, number: int) -> int:
    if number in layout.versions:
        try:
            _opened(layout, number)
        except ModelError as error:
            raise LabelError(f"version {number} cannot be used: {error}") from error
    before = move_label(layout, label, number)
    told = "" if before is None else f", before it was {before}"
    sys.stdout.write(f"{label} of {layout.path} is version {number} now{told}\n")
    return 0


def _opened(layout: ModelLayout, number: int) -> Classifier:
    """A version as the service opens it: one file, and no layout of its own."""
    file = model_file(layout.versions[number])
    return Classifier.open(read_model(file), file)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip() + "\n"
