"""The cores and the memory that this process may use."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from service.runtime.cgroups import PROCESS, group_folders

# Descriptors that a worker needs for everything that is not a connection.
SPARE_DESCRIPTORS = 128


class Machine(NamedTuple):
    """``cores`` (> 0, a fraction under a quota) and bytes of ``memory``."""

    cores: float
    memory: int

    @classmethod
    def measure(cls, process: Path = PROCESS) -> Self:
        """What affinity, control groups and the hardware leave to this process."""
        return cls(available_cores(process), available_memory(process))


def available_cores(process: Path = PROCESS) -> float:
    """Cores by CPU affinity and by the quotas of all control groups, whichever is least; > 0."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    return min([cores, *_quotas(process)])


def available_memory(process: Path = PROCESS) -> int:
    """Bytes by the limits of all control groups and by the hardware, whichever is least."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_memory_limits(process)])


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as the system allows; the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _quotas(process: Path) -> Iterator[float]:
    """The quota of each control group that has one, in cores."""
    for folder in group_folders("cpu", process):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words):  # else: max, or -1
            quota, period = map(int, words)
            yield quota / period


def _memory_limits(process: Path) -> Iterator[int]:
    """The limit of each control group that has one, in bytes."""
    for folder in group_folders("memory", process):
        text = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        if text.isdecimal():
            yield int(text)


def _text(file: Path) -> str:
    """A file's text; empty where there is none."""
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
