"""What a waiting person sees: bars with the time that is left, and lines between them.

All of it goes to standard error; standard output is for results.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

USUAL_SIZE: dict[str, Any] = {"ncols": 79, "nrows": 24}  # of a terminal
NAMED_IN_FULL = 10  # lines that are said before the rest is only counted


def use_utf8() -> None:
    """Write UTF-8 to files and pipes, whatever the system's code page; to a terminal, its own.

    What a terminal cannot show is written as its number, instead of ending the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def bar(items: Iterable[Any] | None = None, **settings: Any) -> Any:
    """A tqdm bar over `items`, or one to be moved by hand; redrawn rarely without a terminal."""
    rare = {} if sys.stderr.isatty() else {"mininterval": 10.0}
    return tqdm(items, **{"file": sys.stderr, **_size(), **rare, **settings})


def _size() -> dict[str, Any]:
    """The terminal's, followed as it changes; a usual one for a terminal that says it has none."""
    # tqdm takes 0 rows for a terminal that is too small for a bar. So are those of serial lines,
    # of containers' terminals before they are told a size, and of some editors.
    if sys.stderr.isatty() and 0 in os.get_terminal_size(sys.stderr.fileno()):
        return USUAL_SIZE
    return {"dynamic_ncols": True}


def say(text: str) -> None:
    """A line of its own, above a bar that may be running."""
    tqdm.write(text, file=sys.stderr)


def name_some(title: str, lines: Sequence[str]) -> None:
    """Say the title and the first few lines; nothing where there are none."""
    if not lines:
        return
    say(f"{title}:")
    for line in lines[:NAMED_IN_FULL]:
        say(f"  {line}")
    if len(lines) > NAMED_IN_FULL:
        say(f"  and {len(lines) - NAMED_IN_FULL} more")


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Drop what TensorFlow's native code prints while it starts.

    It speaks before its own log level counts, of optimisations and of a GPU that is not there, in
    words that look like failures. Exceptions come through. Set TF_CPP_MIN_LOG_LEVEL=0 to see all.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def only_errors(library: str | None = None) -> Iterator[None]:
    """Have a library, or all that set no level of their own, log nothing but errors inside."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
