"""Answers as a table: a row for each label, or one for a problem."""

from collections.abc import Iterable
from typing import Any

from service.batch.answers import Answer
from service.serving.problems import Problem

NAMES = ("file", "rank", "label", "probability", "problem")
FAMILIARITY = "familiarity"

Row = tuple[Any, ...]


def column_names(*, has_familiarity: bool) -> list[str]:
    """The table's columns, in order; familiarity is one more, of a model that tells it."""
    return [*NAMES, FAMILIARITY] if has_familiarity else [*NAMES]


def rows(named: Iterable[tuple[str, Answer]], *, has_familiarity: bool) -> list[Row]:
    """Rows of ``column_names``; what an answer does not have is None.

    ``rank`` counts from 1, ``probability`` and ``familiarity`` are in 0..1. An image has at least
    one row: where no label is probable enough, it has one without a label.
    """
    table: list[Row] = []
    for name, answer in named:
        if isinstance(answer, Problem):
            table.append((name, None, None, None, answer.detail, *[None] * has_familiarity))
            continue
        more = [answer.familiarity] * has_familiarity
        table += [
            (name, rank, one.label, one.probability, None, *more)
            for rank, one in enumerate(answer.predictions, start=1)
        ] or [(name, None, None, None, None, *more)]
    return table
