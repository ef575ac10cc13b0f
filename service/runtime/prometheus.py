"""prometheus_client across processes: the one place that uses its private names.

With several workers each writes its own files in a shared folder, named by its slot. A worker that
replaces a dead one goes on with the same files, so that counts survive and no file is left over. A
test compares ``observe_all`` with the library's own ``observe``.

The files are in memory (tmpfs) and mapped. A write to a page that the file system has no room for
is a SIGBUS, so room is reserved before it is written to: for all files at the start, and for more
series before they are made.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram, multiprocess, values
from prometheus_client.mmap_dict import MmapedDict

T = TypeVar("T", bound=Hashable)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# The files of a slot, and the bytes reserved for each at the start. Of the larger ones a third is
# used with few labels, two thirds with 100 labels, every route and every status.
_FILES = {"counter": 65536, "histogram": 65536, "gauge_livesum": 4096, "gauge_livemax": 4096}
SLOT_BYTES = sum(_FILES.values())
_LIVE = ("gauge_livesum", "gauge_livemax")

# What a file begins with: how many of its bytes are used. It is 0 in a file that is only reserved.
_USED = Struct("i")
# Of a series, beside its key: lengths, padding, value and time.
_ENTRY_BYTES = 32

# Whether this process took over the slot, and the files, of another that has ended.
_replacing: list[bool] = []


class NoRoom(Exception):
    """The file system has no room for the metrics; the message has the sizes."""


class _ReservedFile(MmapedDict):
    """The library's file, which reserves its room before it grows."""

    def _init_value(self, key: str) -> None:
        capacity = self._capacity
        while self._used + len(key.encode()) + _ENTRY_BYTES > capacity:
            capacity *= 2
        if capacity > self._capacity:
            file = Path(self._fname)
            with _room_in(file.parent):
                _reserve(file, capacity)
            self._m = mmap.mmap(self._f.fileno(), capacity)
            self._capacity = capacity
        super()._init_value(key)  # type: ignore[no-untyped-call]


def reserve(folder: Path, slots: int) -> None:
    """Make the files of all slots in this folder, with room for what is usual.

    Raises:
        NoRoom: there is less than ``SLOT_BYTES`` for each slot.
    """
    with _room_in(folder):
        for number in range(slots):
            for name, size in _FILES.items():
                _reserve(folder / f"{name}_{number}.db", size)
    os.environ[FOLDER_VARIABLE] = str(folder)


def use_slot(number: int) -> None:
    """Write this process's metrics to the files of a slot; call it before ``Metrics()``."""
    files = Path(os.environ[FOLDER_VARIABLE]).glob(f"*_{number}.db")
    _replacing[:] = [any(_used(file) for file in files)]
    # prometheus_client chose its class at its import, and would name files by process id.
    values.ValueClass = values.MultiProcessValue(lambda: number)
    values.MmapedDict = _ReservedFile  # type: ignore[attr-defined]


def replaces_another() -> bool:
    """Whether this process took the place of one that had ended."""
    return any(_replacing)


def forget_slot(number: int) -> None:
    """Drop what only a living worker may report (requests in flight)."""
    for name in _LIVE:  # the library would remove the files, and what is reserved with them
        file = Path(os.environ[FOLDER_VARIABLE]) / f"{name}_{number}.db"
        with suppress(FileNotFoundError), file.open("r+b") as opened:
            opened.write(_USED.pack(0))


def all_workers_registry() -> CollectorRegistry:
    """A registry that sums the files of all workers."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """``histogram.observe`` of each amount, with one write for each series that changes.

    A write is locked, packed and copied to shared memory, 16 times for one prediction. Most amounts
    of requests that are counted together fall into the same buckets.
    """
    if not amounts:
        return
    histogram._sum.inc(sum(amounts))  # noqa: SLF001
    bounds = histogram._upper_bounds  # noqa: SLF001
    for place, times in counted(bisect_left(bounds, amount) for amount in amounts).items():
        histogram._buckets[place].inc(times)  # noqa: SLF001


def counted(found: Iterable[T]) -> dict[T, int]:
    """How often each value is there (``collections.Counter`` takes longer to make)."""
    times: dict[T, int] = {}
    for value in found:
        times[value] = times.get(value, 0) + 1
    return times


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    space = os.statvfs(folder)
    free, total = (count * space.f_frsize // 1024 for count in (space.f_bavail, space.f_blocks))
    try:
        yield
    except OSError as error:
        reason = f"{folder.parent} has {free} kB free of {total} kB ({error.strerror})"
        raise NoRoom(reason) from error


def _reserve(file: Path, size: int) -> None:
    with file.open("ab") as opened:
        os.posix_fallocate(opened.fileno(), 0, size)


def _used(file: Path) -> int:
    with file.open("rb") as opened:
        (used,) = _USED.unpack(opened.read(_USED.size))
    return int(used)
