"""How many cores this process may really use, and what follows from it."""

import math
import os
import resource
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> float:
    """Cores by CPU affinity and by the cgroup's quota (v2, else v1), whichever is less; > 0."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    quota = _cgroup_quota(cgroup)
    return min(cores, quota) if quota else cores


def default_workers(cores: float) -> int:
    """One worker per core; a part of a core counts as one."""
    return max(1, math.ceil(cores))


def share(total: int, workers: int) -> int:
    """One worker's share of a bound on the whole service, at least 1."""
    return max(1, math.ceil(total / workers))


def raise_descriptor_limit() -> int:
    """Open as many files as the system lets this process, not as many as it begins with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _cgroup_quota(cgroup: Path) -> float | None:
    """The quota in cores; None where there is none."""
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
