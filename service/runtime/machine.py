"""The cores and the memory that this process may use."""

import os
import resource
from pathlib import Path
from typing import NamedTuple, Self

_CGROUP = Path("/sys/fs/cgroup")

# Descriptors that a worker needs for everything that is not a connection.
SPARE_DESCRIPTORS = 128


class Machine(NamedTuple):
    """``cores`` (> 0, a fraction under a quota) and bytes of ``memory``."""

    cores: float
    memory: int

    @classmethod
    def measure(cls, cgroup: Path = _CGROUP) -> Self:
        """What affinity, cgroup limits and the hardware leave to this process."""
        return cls(available_cores(cgroup), available_memory(cgroup))


def available_cores(cgroup: Path = _CGROUP) -> float:
    """Cores by CPU affinity and by the cgroup's quota (v2, else v1), whichever is less; > 0."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    quota = _cgroup_quota(cgroup)
    return min(cores, quota) if quota else cores


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes by the cgroup's limit (v2, else v1) and by the hardware, whichever is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(int(text), physical)
    return physical


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as the system allows; the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _cgroup_quota(cgroup: Path) -> float | None:
    """The quota in cores; None without one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
