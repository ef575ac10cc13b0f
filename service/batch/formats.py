"""Answers as bytes of an output: CSV, JSON lines, or what Parquet is made of.

They are made where images are predicted, by all processes at once.
"""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from service.batch.answers import Answer
from service.batch.columns import column_names, rows
from service.batch.parquet import table_bytes
from service.inference.classifier import Classifier
from service.serving.problems import Problem

CSV, JSONL, PARQUET = FORMATS = ("csv", "jsonl", "parquet")

Named = Sequence[tuple[str, Answer]]
Encode = Callable[[Named], bytes]


def encoder(form: str, classifier: Classifier) -> Encode:
    """What turns named answers into bytes of a format."""
    has_familiarity = classifier.card.familiarity is not None
    if form == JSONL:
        model = {"name": classifier.card.name, "version": classifier.card.version}
        return partial(_lines, msgspec.Raw(msgspec.json.encode(model)))
    encode = _csv if form == CSV else table_bytes
    return partial(encode, has_familiarity=has_familiarity)


def header(form: str, classifier: Classifier) -> bytes:
    """What an output begins with."""
    if form != CSV:
        return b""
    names = column_names(has_familiarity=classifier.card.familiarity is not None)
    return (",".join(names) + "\n").encode()


def _csv(named: Named, *, has_familiarity: bool) -> bytes:
    text = io.StringIO()
    table = rows(named, has_familiarity=has_familiarity)
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue().encode()


def _lines(model: msgspec.Raw, named: Named) -> bytes:
    """One object an image: as over HTTP, with its name."""
    return _ENCODER.encode_lines([_object(name, model, answer) for name, answer in named])


def _object(name: str, model: msgspec.Raw, answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Problem):
        return {"file": name, "model": model, "problem": answer}
    told: dict[str, Any] = {"file": name, "model": model, "predictions": answer.predictions}
    if answer.familiarity is not None:
        told |= {"familiarity": answer.familiarity, "unfamiliar": answer.unfamiliar}
    return told


_ENCODER = msgspec.json.Encoder()
