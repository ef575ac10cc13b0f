"""One command at a time writes to an output: a Job may start a pod twice by mistake."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.batch.errors import Busy, Refused


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other commands from an output, by a file beside it that is there meanwhile.

    It is a file of its own, because the output may be missing still, and its journal is replaced
    as a whole. A file system without locks keeps nobody away.

    Raises:
        Busy: another command writes to the output.
        Refused: the file cannot be made.
    """
    path = output.with_name(f".{output.name}.lock")
    descriptor = _opened(path, output)
    while not _is_there(path, descriptor):
        # Its owner has removed it since it was opened here: the lock is on no file any more.
        os.close(descriptor)
        descriptor = _opened(path, output)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _opened(path: Path, output: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Busy(f"{output} is being written by another command") from error
    except OSError:
        pass  # a file system without locks
    return descriptor


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
