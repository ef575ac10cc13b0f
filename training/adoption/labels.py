"""Labels as people and exporters write them: JSON, a file with one a line, ImageNet's by name."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from training.errors import ConfigError

IMAGENET = "imagenet-1k"  # torchvision's names, each of which is there once
_WORDNET = re.compile(r"n\d{8}\s+(.+)")  # ImageNet's numbers, as in synset.txt


def from_option(text: str) -> tuple[str, ...]:
    """What `--labels` says: `imagenet-1k`, a file, JSON, or names with commas between.

    Raises ConfigError.
    """
    if text == IMAGENET:
        return imagenet()
    if text.lstrip().startswith(("[", "{")):
        return _from_json(text, "--labels")
    path = Path(text)
    with contextlib.suppress(OSError):  # names with commas between may be too long for a file's
        if path.is_file():
            return from_file(path)
    if "," in text:
        return tuple(name.strip() for name in text.split(","))
    raise ConfigError(
        f"--labels: {text} is no file; give a file with one label a line or JSON, the labels with "
        f"commas between, or {IMAGENET}"
    )


def imagenet() -> tuple[str, ...]:
    """ImageNet-1k's 1,000 labels in its usual order."""
    return tuple(files(__package__).joinpath(f"{IMAGENET}.txt").read_text("utf-8").splitlines())


def from_file(path: Path) -> tuple[str, ...]:
    """A file of labels: JSON, or one a line, with the numbers of the outputs in front or not.

    Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--labels: {path} cannot be read: {error}") from error
    if text.startswith(("[", "{")):
        return _from_json(text, f"--labels: {path}")
    lines = [line.strip() for line in text.splitlines()]
    if not lines:
        raise ConfigError(f"--labels: {path} is empty")
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if all(found and int(found[1]) == i for i, found in enumerate(numbered)):
        return tuple(found[2] for found in numbered if found)
    known = [_WORDNET.fullmatch(line) for line in lines]
    return tuple(found[1] for found in known if found) if all(known) else tuple(lines)


def _from_json(text: str, where: str) -> tuple[str, ...]:
    try:
        return from_value(json.loads(text))
    except ValueError as error:
        raise ConfigError(f"{where}: no list of labels: {error}") from error


def from_value(value: Any) -> tuple[str, ...]:
    """The labels that a list, or an object of numbers and labels either way round, holds.

    Objects are `{"0": "cat"}`, `{"cat": 0}`, `{"0": ["n02123045", "tabby"]}` (of which the last is
    the label), or a configuration with `id2label`. Raises ValueError.
    """
    if isinstance(value, dict) and "id2label" in value:
        value = value["id2label"]
    if isinstance(value, dict):
        value = _in_order(value)
    if not isinstance(value, list) or not value:
        raise ValueError("a list, or an object of numbers and labels, is needed")
    names = [each[-1] if isinstance(each, list) and each else each for each in value]
    if not all(isinstance(name, (str, int)) for name in names):
        raise ValueError("a label is neither text nor a number")
    return tuple(map(str, names))


def _in_order(value: dict[Any, Any]) -> list[Any]:
    pairs = [*value.items()]
    if all(isinstance(number, int) for _, number in pairs):
        pairs = [(number, name) for name, number in pairs]
    by_number = {int(number): name for number, name in pairs if str(number).isdecimal()}
    if sorted(by_number) != [*range(len(value))]:
        raise ValueError(f"the numbers are not 0 to {len(value) - 1}")
    return [by_number[i] for i in range(len(value))]


def told_apart(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels with a number behind each that was there before, and which these are.

    ImageNet has two cranes. Raises ConfigError for an empty label.
    """
    if not all(labels):
        raise ConfigError(f"--labels: number {[*labels].index('')} is empty")
    found: dict[str, None] = {}
    for label in labels:
        numbers = (f"{label} ({n})" for n in itertools.count(2))
        found[label if label not in found else next(n for n in numbers if n not in found)] = None
    counts = Counter(labels)
    return tuple(found), tuple(label for label, count in counts.items() if count > 1)
