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
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import NamedTuple

from service.batch.items import LARGEST, Item, bytes_of
from service.batch.work import LARGEST_TOGETHER, Piece, Work
from service.inference.classifier import Classifier, Selection
from service.inference.imaging import DEFAULT_LIMITS
from service.runtime.allocator import return_large_blocks
from service.runtime.machine import Machine
from service.runtime.sizing import (
    BYTES_PER_PIXEL,
    MASTER_BYTES,
    MAX_BATCH_SIZE,
    MODEL_FACTOR,
    PROCESS_BYTES,
    USABLE_SHARE,
)

# How long the first process works alone.
PATIENCE_SECONDS = 1.0
# Pieces of work for each process, done and not yet written or still to do: enough that none waits
# for another that has large images, and few enough to hold.
_AHEAD = 3
# Bytes of members of archives that these may have where another piece is asked for.
AHEAD_BYTES = 1 << 28

# The names of a chunk's images, and what came of them.
Done = tuple[list[str], Piece]


class Task(NamedTuple):
    """What each process works with: the model's bytes, its path for messages, what is wanted.

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
    """How many processes a machine has cores for, and memory for the largest files in each."""
    largest = BYTES_PER_PIXEL * DEFAULT_LIMITS.max_pixels
    files = LARGEST + MAX_BATCH_SIZE * LARGEST_TOGETHER
    each = PROCESS_BYTES + MODEL_FACTOR * model_bytes + largest + files
    # Beside what is ahead, the piece that comes next.
    fitting = (machine.memory * USABLE_SHARE - MASTER_BYTES - AHEAD_BYTES - LARGEST) / each
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
    pending: deque[_Pending] = deque()
    with _pool(task, processes) as pool:
        for chunk in chunks:
            pending.append(_Pending(_names(chunk), bytes_of(chunk), _submitted(pool, chunk)))
            while pending and (
                len(pending) >= _AHEAD * processes
                or sum(one.size for one in pending) > AHEAD_BYTES
                or pending[0].future.done()
            ):
                yield _next(pending)
        while pending:
            yield _next(pending)


def _submitted(pool: ProcessPoolExecutor, chunk: Sequence[Item]) -> Future[Piece]:
    try:
        with _without_interrupts():  # a process is started as soon as there is work for it
            return pool.submit(_run, chunk)
    except OSError as error:  # it cannot be started, or another has ended, and the pool with it
        raise BrokenProcessPool(str(error)) from error


def _next(pending: "deque[_Pending]") -> Done:
    first = pending.popleft()
    return first.names, first.future.result()


class _Pending(NamedTuple):
    """A piece of work that a process has, or will have: its images' names, and its bytes."""

    names: list[str]
    size: int
    future: Future[Piece]


@contextmanager
def _pool(task: Task, processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with a task.

    They read the model for themselves. The pool's pipe does not hold one, and if a process ended
    before it has read all, as where the memory is short, the pool would write to it for ever.
    """
    with os.fdopen(os.memfd_create("labelserve-model"), "wb") as model:
        model.write(task.model)
        model.flush()
        told = f"/proc/{os.getpid()}/fd/{model.fileno()}", task._replace(model=b"")
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, told)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            # One that was being started while another ended is not the pool's any more.
            for process in active_children():
                process.terminate()


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


def _start(model: str, task: Task) -> None:
    global _work  # noqa: PLW0603  a pool has no other place for what its tasks share
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return_large_blocks()
    _work = task._replace(model=Path(model).read_bytes()).work()


def _run(chunk: Sequence[Item]) -> Piece:
    assert _work is not None  # noqa: S101
    return _work(chunk)


def _end_with_parent() -> None:
    """A parent that is killed can tell its processes nothing: they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # noqa: S101
    parent.join()
    os._exit(1)
