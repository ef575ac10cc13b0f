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
        contents = self._contents(items)
        files = [content for content in contents if isinstance(content, bytes)]
        found = iter(answers(self.classifier, files, self._selection))
        for item, content in zip(items, contents, strict=True):
            yield as_text(item.name), next(found) if isinstance(content, bytes) else content

    def _contents(self, items: Sequence[Item]) -> list[Content]:
        """The items' bytes."""
        if self._readers is not None:
            return _read_by(self._readers, items)
        begun = time.monotonic()
        contents = _read(items)
        if time.monotonic() - begun > SLOW_SECONDS * len(items):
            self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        return contents


def _read_by(readers: ThreadPoolExecutor, items: Sequence[Item]) -> list[Content]:
    """Each reader has every eighth item: a task costs more than a file."""
    contents: list[Content] = [b""] * len(items)
    found = readers.map(_read, [items[first::_READERS] for first in range(_READERS)])
    for first, some in enumerate(found):
        contents[first::_READERS] = some
    return contents


def _read(items: Sequence[Item]) -> list[Content]:
    return [_file(item.name) if item.content is None else item.content for item in items]


def _file(name: str) -> Content:
    try:
        # A Path takes ten times as long.
        with open(name, "rb", buffering=0, opener=only_files) as file:
            size = os.fstat(file.fileno()).st_size
            return file.read() if size <= LARGEST else too_large(size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return unreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}")
