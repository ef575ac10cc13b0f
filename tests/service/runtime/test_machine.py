"""Cores and memory as a container may use them: cgroups of both versions, and none."""

import os
from pathlib import Path

import pytest

from service.runtime.machine import Machine, available_cores, available_memory

HAS_AFFINITY = hasattr(os, "sched_getaffinity")


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    return 8


def tree(folder: Path, **files: str) -> Path:
    """What a process sees that is at the top of its hierarchies; ``__`` stands for a folder."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")
    (folder / "cgroup").write_text("4:memory:/\n2:cpu,cpuacct:/\n0::/\n", encoding="ascii")
    mounts = [
        f"41 31 0:38 / {folder} rw - cgroup2 cgroup2 rw",
        f"32 31 0:29 / {folder}/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        f"35 31 0:32 / {folder}/memory rw,nosuid - cgroup cgroup rw,memory",
    ]
    (folder / "mountinfo").write_text("\n".join(mounts) + "\n", encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 0.5),
        ("150000 100000\n", 1.5),
        ("10000 50000\n", 0.2),
        ("max 100000\n", 8),
        ("3200000 100000\n", 8),
        ("", 8),
        ("max\n", 8),
    ],
)
def test_cgroup_2(tmp_path: Path, cores: int, text: str, expected: float) -> None:
    assert cores == 8
    assert available_cores(tree(tmp_path, cpu_DOT_max=text)) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [("100000", 1), ("50000", 0.5), ("-1", 8), ("1600000", 8)]
)
def test_cgroup_1(tmp_path: Path, cores: int, quota: str, expected: float) -> None:
    assert cores == 8
    files = {"cpu__cpu_DOT_cfs_quota_us": quota, "cpu__cpu_DOT_cfs_period_us": "100000\n"}
    assert available_cores(tree(tmp_path, **files)) == expected


def test_no_cgroup(tmp_path: Path, cores: int) -> None:
    assert available_cores(tmp_path / "nothing") == cores


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system knows no affinity")
def test_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert available_cores(tmp_path) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 4})
    assert available_cores(tree(tmp_path, cpu_DOT_max="50000 100000")) == 0.5


def test_where_there_is_no_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1


def test_this_machine() -> None:
    assert 0 < available_cores() <= (os.cpu_count() or 1)
    assert available_memory() > 10**8
    assert Machine.measure() == (available_cores(), available_memory())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_DOT_max": "536870912\n"}, 536870912),
        ({"memory__memory_DOT_limit_in_bytes": "536870912\n"}, 536870912),
        ({"memory_DOT_max": "max\n"}, None),
        ({"memory__memory_DOT_limit_in_bytes": "9223372036854771712\n"}, None),
        ({}, None),
    ],
)
def test_memory(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available_memory(tree(tmp_path, **files)) == (expected or physical)
