"""One image on its way: its name, and where its bytes are."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from service.serving.problems import Problem

# The bytes, or why there are none.
Content = bytes | Problem
Load = Callable[[], Content]
# A file of more bytes is not taken into memory.
LARGEST = 1 << 28


class Listed(NamedTuple):
    """An image as it was found.

    ``name``: what its row is called; of a file, its path. ``load``: gives its bytes, only before
    the next image is asked for; None for a file, which whoever decodes it reads.
    """

    name: str
    load: Load | None = None


class Item(NamedTuple):
    """An image as a process is given it. ``content``: None for a file that is still to be read."""

    name: str
    content: Content | None = None


def unreadable(detail: str) -> Problem:
    """The problem of a file, a folder or an archive that gives no bytes."""
    return Problem(type="about:blank", title="The file cannot be read", status=404, detail=detail)


def too_large(size: int) -> Problem:
    """The problem of a file, or a member, of more than ``LARGEST`` bytes."""
    return unreadable(f"the file has {size} bytes, {LARGEST} are allowed")


def only_files(path: str, flags: int) -> int:
    """An opener for ``open``, which neither waits for a pipe nor reads a device without end.

    Raises:
        OSError: there is no such file, or it is something else; folders are left to ``open``.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no file, but a device or a pipe")


def problem(name: str, detail: str) -> Listed:
    """An item that has a problem in place of bytes."""
    return Listed(name, lambda: unreadable(detail))


def passed_over(name: str, counts: "Counter[str]") -> None:
    """Count a file that is not called an image, by its ending."""
    counts[os.path.splitext(name)[1].lower() or "(none)"] += 1  # noqa: PTH122


def bytes_of(items: Iterable[Item]) -> int:
    """How many bytes some items carry."""
    return sum(len(item.content) for item in items if isinstance(item.content, bytes))


def as_text(name: str) -> str:
    """A name as text; bytes that are no text become U+FFFD."""
    return os.fsencode(name).decode(errors="replace")
