"""The log's way out of a process: a bounded queue of lines, and one thread that writes them."""

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

# Of lines that wait; some thousand requests. What comes on top of it is dropped and counted.
QUEUE_BYTES = 1_000_000
# After a drop, lines are taken again from here on: one gap, and one line about it.
_RESUME_BYTES = QUEUE_BYTES // 2


class LogWriter:
    """Writes lines to a file descriptor whose reader may sleep: no caller ever waits for it.

    Lines are written whole, several workers may share the descriptor, and processes that are forked
    have a queue and a thread of their own. The descriptor is not made non-blocking: it belongs to
    whoever reads and writes the same terminal or pipe, too.

    Args:
        descriptor: where to write; an error there loses lines, and stops nothing.
        gap: makes the line about a number of lines that were lost.
    """

    def __init__(self, descriptor: int, gap: Callable[[int], bytes]) -> None:
        self._descriptor = descriptor
        self._gap = gap
        self._turns = os.memfd_create("labelserve-log")
        self.on_drop: Callable[[int], None] | None = None
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start empty, also in a process that was forked while another thread held the lock."""
        # Reentrant: a signal's handler may log while its thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._lines: list[bytes] = []
        self._bytes = 0  # of lines that are not written yet, those of the thread included
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        """Take a line (with its end), to be written soon; drop it if too many bytes wait."""
        with self._changed:
            if self._bytes + len(line) > (_RESUME_BYTES if self._lost else QUEUE_BYTES):
                self._lose(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._thread is None:
                self._start()
            elif len(self._lines) == 1:  # else it knows
                self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, at most this long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._bytes and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _start(self) -> None:
        # A daemon: the process ends although it may be waiting for a reader.
        thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        with suppress(RuntimeError):  # no thread to be had now: the next line tries again
            thread.start()
            self._thread = thread

    def _write_all(self) -> None:
        # flock belongs to an open file, so each process needs one of its own. (lockf belongs to
        # processes, but would see deadlocks between this thread's wait and other threads' locks.)
        turns = os.open(f"/proc/self/fd/{self._turns}", os.O_RDWR)
        while True:
            lines = self._next()
            fcntl.flock(turns, fcntl.LOCK_EX)
            for piece in _pieces(lines):
                self._finish(piece, written=self._write(b"".join(piece)))
            fcntl.flock(turns, fcntl.LOCK_UN)

    def _next(self) -> list[bytes]:
        """All lines that wait, and at least one."""
        with self._changed:
            while not self._lines:
                self._changed.wait()
            lines, self._lines = self._lines, []
            return lines

    def _write(self, piece: bytes) -> bool:
        """Write all of it, however long that takes; whether it could be written."""
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process has made the pipe non-blocking
                waiting = select.poll()
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll()
            except OSError:
                return False
        return True

    def _finish(self, piece: list[bytes], *, written: bool) -> None:
        """Account for a piece; if it was written, and lines were lost before, tell so."""
        with self._changed:
            self._bytes -= sum(map(len, piece))
            if not written:
                self._lose(len(piece))
            elif self._lost and self._bytes <= _RESUME_BYTES:
                gap = self._gap(self._lost)
                self._lost = 0
                self._lines.append(gap)
                self._bytes += len(gap)
            self._changed.notify_all()

    def _lose(self, lines: int) -> None:
        self._lost += lines
        if self.on_drop is not None:
            self.on_drop(lines)


def _pieces(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Lines to write at once: as many as a pipe takes in one atomic write, and at least one."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > select.PIPE_BUF:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield piece
