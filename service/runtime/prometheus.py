"""prometheus_client across processes: the one place that uses its private names.

With several workers each writes its own files in a shared folder, named by its slot. A worker that
replaces a dead one goes on with the same files, so that counts survive and no file is left over. A
test compares ``observe_all`` with the library's own ``observe``.
"""

import os
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram, multiprocess, values

T = TypeVar("T", bound=Hashable)

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Whether this process took over the slot, and the files, of another that has ended.
_replacing: list[bool] = []


def use_slot(number: int) -> None:
    """Write this process's metrics to the files of a slot; call it before ``Metrics()``."""
    files = Path(os.environ[FOLDER_VARIABLE]).glob(f"*_{number}.db")
    _replacing[:] = [next(files, None) is not None]
    # prometheus_client chose its class at its import, and would name files by process id.
    values.ValueClass = values.MultiProcessValue(lambda: number)


def replaces_another() -> bool:
    """Whether this process took the place of one that had ended."""
    return any(_replacing)


def forget_slot(number: int) -> None:
    """Drop what only a living worker may report (requests in flight)."""
    multiprocess.mark_process_dead(number)


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
