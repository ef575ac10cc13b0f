"""What is decided of a foreign model, each with where it comes from: nothing passes in silence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
ASSUMED = "assumed"
SOFTMAX_CHOICES = ("auto", "yes", "no", "sigmoid")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A value, and what tells it: an option, the graph, a file beside it, or nothing (ASSUMED)."""

    value: T
    why: str


def first(*choices: Choice[T] | None) -> Choice[T] | None:
    """The first that there is, if any."""
    return next((choice for choice in choices if choice is not None), None)


def given(flag: str, value: T | None) -> Choice[T] | None:
    """What an option says, if it is given."""
    return None if value is None else Choice(value, flag)
