"""Pieces of work on all cores, in order.

Processes and not threads: to decode and to predict needs Python for a tenth of a millisecond an
image, which threads could only do one after the other. Each process opens the model for itself, and
starts afresh, because onnxruntime does not survive a fork. That takes a second: what is done within
the first second is done without them.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain
from multiprocessing import get_context, parent_process
from typing import NamedTuple

from service.batch.items import Item
from service.batch.work import Piece, Work
from service.inference.classifier import Classifier, Selection
from service.inference.imaging import DEFAULT_LIMITS
from service.runtime.allocator import return_large_blocks
from service.runtime.machine import Machine
from service.runtime.sizing import (
    BYTES_PER_PIXEL,
    MASTER_BYTES,
    MODEL_FACTOR,
    PROCESS_BYTES,
    USABLE_SHARE,
)

# How long the first process works alone.
PATIENCE_SECONDS = 1.0
# Pieces of work for each process, done and not yet written or still to do: enough that none waits
# for another that has large images, and few enough to hold.
_AHEAD = 3

# The names of a chunk's images, and what came of them.
Done = tuple[list[str], Piece]


class Task(NamedTuple):
    """What each process is told: the model's bytes, its path for messages, and what is wanted.

    The bytes, because the file may be replaced meanwhile.
    """

    model: bytes
    path: str
    selection: Selection
    form: str

    def work(self) -> Work:
        """Open the model.

        Raises:
            ModelError: it cannot be used.
        """
        # One thread, however many processes there are: the answers do not depend on the machine.
        return Work(Classifier.open(self.model, self.path), self.selection, self.form)


def processes_for(machine: Machine, model_bytes: int) -> int:
    """How many processes a machine has cores for, and memory for the largest image in each."""
    largest = BYTES_PER_PIXEL * DEFAULT_LIMITS.max_pixels
    each = PROCESS_BYTES + MODEL_FACTOR * model_bytes + largest
    fitting = (machine.memory * USABLE_SHARE - MASTER_BYTES) / each
    return max(1, min(round(machine.cores), int(fitting)))


def in_order(
    chunks: Iterable[Sequence[Item]], task: Task, work: Work, processes: int
) -> Generator[Done]:
    """What comes of each chunk, in order.

    Args:
        chunks: asked for only a few ahead of what is done.
        task: for processes that are started.
        work: this process's own.
        processes: how many there may be.

    Raises:
        BrokenProcessPool: a process was killed, or ran out of memory.
    """
    chunks = iter(chunks)
    begun = time.monotonic()
    for chunk in chunks:
        if processes > 1 and time.monotonic() - begun > PATIENCE_SECONDS:
            yield from _by_processes(chain([chunk], chunks), task, processes)
            return
        yield _names(chunk), work(chunk)


def _by_processes(chunks: Iterator[Sequence[Item]], task: Task, processes: int) -> Iterator[Done]:
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (task,))
    pending: deque[tuple[list[str], Future[Piece]]] = deque()
    try:
        for chunk in chunks:
            with _without_interrupts():  # a process is started as soon as there is work for it
                pending.append((_names(chunk), pool.submit(_run, chunk)))
            while pending and (len(pending) >= _AHEAD * processes or pending[0][1].done()):
                yield _next(pending)
        while pending:
            yield _next(pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _next(pending: deque[tuple[list[str], Future[Piece]]]) -> Done:
    names, future = pending.popleft()
    return names, future.result()


def _names(chunk: Sequence[Item]) -> list[str]:
    return [item.name for item in chunk]


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started inside do not hear Ctrl-C. This one hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in a process of the pool ------------------------------------------------------------------

_work: Work | None = None


def _start(task: Task) -> None:
    global _work  # noqa: PLW0603  a pool has no other place for what its tasks share
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return_large_blocks()
    _work = task.work()


def _run(chunk: Sequence[Item]) -> Piece:
    assert _work is not None  # noqa: S101
    return _work(chunk)


def _end_with_parent() -> None:
    """A parent that is killed can tell its processes nothing: they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # noqa: S101
    parent.join()
    os._exit(1)
