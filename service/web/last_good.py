"""The last file that could be used, kept by the whole service and not by any file system.

A model or a file of keys that is refused, or gone, stays so, and a worker that dies then has to be
replaced: the new one starts with what the others still go by.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


class LastGood:
    """Some bytes, in anonymous memory that the master makes before it forks.

    Two places take turns, so that the one that is read is never the one that is written.
    """

    def __init__(self) -> None:
        self._places = [os.memfd_create(f"labelserve-{n}") for n in range(2)]
        self._current = mmap.mmap(-1, 1)  # 0: nothing yet; else the place's number plus 1

    def store(self, data: bytes) -> None:
        """Keep these bytes; if they are kept already, that costs nothing but a look."""
        with self._alone():
            if self._read() == data:
                return
            place = self._current[0] % 2
            os.ftruncate(self._places[place], 0)
            with open(self._places[place], "wb", closefd=False) as file:
                file.seek(0)
                file.write(data)
            self._current[0] = place + 1

    def load(self) -> bytes | None:
        """What was kept last; None before the first."""
        with self._alone():
            return self._read()

    def _read(self) -> bytes | None:
        if not self._current[0]:
            return None
        place = self._places[self._current[0] - 1]
        return os.pread(place, os.fstat(place).st_size, 0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Among processes: POSIX locks belong to the process, which a fork does not hand on."""
        fcntl.lockf(self._places[0], fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._places[0], fcntl.LOCK_UN)
