"""Bytes that outlive a worker: the last-known-good model, and the API keys read last.

When the model or the file of keys is refused or missing, the workers go on with what they have. A
worker that dies meanwhile is replaced by one that starts with the same bytes.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


class SharedBytes:
    """Some bytes in anonymous memory, which the master makes before it forks.

    There are two places, used in turn: the one that is read is never the one that is written.
    """

    def __init__(self) -> None:
        self._places = [os.memfd_create(f"labelserve-{n}") for n in range(2)]
        self._current = mmap.mmap(-1, 1)  # 0: nothing yet; else the place's number plus 1

    def store(self, data: bytes) -> None:
        """Keep these bytes; nothing is written if they are kept already."""
        with self._locked():
            if self._read() == data:
                return
            place = self._current[0] % 2
            os.ftruncate(self._places[place], 0)
            with open(self._places[place], "wb", closefd=False) as file:
                file.seek(0)
                file.write(data)
            self._current[0] = place + 1

    def load(self) -> bytes | None:
        """The bytes stored last; None before the first."""
        with self._locked():
            return self._read()

    def _read(self) -> bytes | None:
        if not self._current[0]:
            return None
        place = self._places[self._current[0] - 1]
        return os.pread(place, os.fstat(place).st_size, 0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A lock among processes: POSIX locks belong to a process and are not inherited."""
        fcntl.lockf(self._places[0], fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._places[0], fcntl.LOCK_UN)
