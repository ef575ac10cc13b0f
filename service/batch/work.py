"""What one process does: read files, decode, predict, and write down the answers."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from service.batch.answers import Answer, answers
from service.batch.formats import encoder
from service.batch.items import (
    LARGEST,
    Content,
    Item,
    as_text,
    only_files,
    too_large,
    unreadable,
)
from service.inference.classifier import Classifier, Selection
from service.runtime.sizing import MAX_BATCH_SIZE
from service.serving.problems import Problem

# Files that a process reads at the same time where one takes longer than this, as on network
# storage. Elsewhere, threads would cost more than they gain.
_READERS = 8
# A larger file is not read before it is its turn to be decoded: of those there is one in memory.
LARGEST_TOGETHER = 1 << 23
SLOW_SECONDS = 0.001


class Piece(NamedTuple):
    """The answers to some images: ``failed`` is how many have none, ``rows`` are a format's."""

    images: int
    failed: int
    rows: bytes


class Work:
    """Answers images, in order.

    Args:
        classifier: the model.
        selection: which labels are wanted.
        form: of ``formats.FORMATS``.
    """

    def __init__(self, classifier: Classifier, selection: Selection, form: str) -> None:
        self.classifier = classifier
        self._selection = selection
        self._encode = encoder(form, classifier)
        self._readers: ThreadPoolExecutor | None = None

    def __call__(self, items: Sequence[Item]) -> Piece:
        """The answers to some images, at least one."""
        named: list[tuple[str, Answer]] = []
        for start in range(0, len(items), MAX_BATCH_SIZE):
            named += self._of_batch(items[start : start + MAX_BATCH_SIZE])
        failed = sum(isinstance(answer, Problem) for _, answer in named)
        return Piece(len(named), failed, self._encode(named))

    def _of_batch(self, items: Sequence[Item]) -> Iterator[tuple[str, Answer]]:
        """Only so many files are in memory at the same time."""
        found = answers(self.classifier, _whole(items, self._contents(items)), self._selection)
        return zip((as_text(item.name) for item in items), found, strict=True)

    def _contents(self, items: Sequence[Item]) -> list[Content | int]:
        """The items' bytes; of a file that is too large to be read with others, its size."""
        if self._readers is not None:
            return _read_by(self._readers, items)
        begun = time.monotonic()
        contents = _read(items)
        if time.monotonic() - begun > SLOW_SECONDS * len(items):
            self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        return contents


def _whole(items: Sequence[Item], contents: Sequence[Content | int]) -> Iterator[Content]:
    for item, content in zip(items, contents, strict=True):
        found = _file(item.name, LARGEST) if isinstance(content, int) else content
        yield too_large(found) if isinstance(found, int) else found


def _read_by(readers: ThreadPoolExecutor, items: Sequence[Item]) -> list[Content | int]:
    """Each reader has every eighth item: a task costs more than a file."""
    contents: list[Content | int] = [b""] * len(items)
    found = readers.map(_read, [items[first::_READERS] for first in range(_READERS)])
    for first, some in enumerate(found):
        contents[first::_READERS] = some
    return contents


def _read(items: Sequence[Item]) -> list[Content | int]:
    return [
        _file(item.name, LARGEST_TOGETHER) if item.content is None else item.content
        for item in items
    ]


def _file(name: str, most: int) -> Content | int:
    """A file's bytes; its size, if it has more than that."""
    try:
        # A Path takes ten times as long.
        with open(name, "rb", buffering=0, opener=only_files) as file:
            size = os.fstat(file.fileno()).st_size
            return file.read() if size <= most else size
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return unreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}")
