"""Limits of control groups above the process's own: systemd's slices, and the host's groups."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.runtime.cgroups import group_folders
from service.runtime.machine import Machine, available_memory
from tests.server import ROOT

MB = 10**6
SLICE = "/system.slice/labelserve.service"
SCOPE = "/system.slice/docker-4d7a.scope"


def seen(folder: Path, groups: str, *mounts: tuple[str, str, str]) -> Path:
    """A process's files; mounts are (file system with its options, the group, the folder)."""
    lines = [
        f"31 23 0:28 {group} {folder / point} rw,relatime shared:9 - {system}\n"
        for system, group, point in mounts
    ]
    others = "23 1 259:1 / / rw - ext4 /dev/root rw\n24 23 0:5 / /dev rw - devtmpfs none rw\n"
    (folder / "mountinfo").write_text(others + "".join(lines), encoding="ascii")
    (folder / "cgroup").write_text(groups, encoding="ascii")
    return folder


def put(folder: Path, **limits: object) -> None:
    """A group's files; ``__`` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in limits.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n", encoding="ascii")


@pytest.mark.parametrize("path", [SLICE, SCOPE])
def test_version_2(tmp_path: Path, path: str) -> None:
    """A service of systemd's, or a container that sees the host's groups."""
    process = seen(tmp_path, f"0::{path}\n", ("cgroup2 cgroup2 rw", "/", "top"))
    own = tmp_path / "top" / path[1:]
    put(own, cpu__max="50000 100000", memory__max=900 * MB)
    put(own.parent, cpu__max="max 100000", memory__max="max")
    assert Machine.measure(process) == (0.5, 900 * MB)
    put(own.parent, cpu__max="20000 100000", memory__max=700 * MB)  # the slice's are less
    assert Machine.measure(process) == (0.2, 700 * MB)
    put(own, cpu__max="max 100000", memory__max="max")
    assert Machine.measure(process) == (0.2, 700 * MB)


def test_version_1_has_a_hierarchy_for_each(tmp_path: Path) -> None:
    process = seen(
        tmp_path,
        f"9:name=systemd:/user.slice\n4:memory:{SLICE}\n2:cpu,cpuacct:/batch/a\n0::/\n",
        ("cgroup cgroup rw,name=systemd", "/", "systemd"),
        ("cgroup cgroup rw,cpu,cpuacct", "/", "cpu,cpuacct"),
        ("cgroup cgroup rw,memory", "/", "memory"),
        ("cgroup2 cgroup2 rw", "/", "unified"),
    )
    put(tmp_path / "memory" / SLICE[1:], memory__limit_in_bytes=2**63 - 4096)
    put(tmp_path / "memory" / "system.slice", memory__limit_in_bytes=600 * MB)
    put(tmp_path / "cpu,cpuacct/batch/a", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    put(tmp_path / "cpu,cpuacct/batch", cpu__cfs_quota_us=25000, cpu__cfs_period_us=50000)
    assert Machine.measure(process) == (0.5, 600 * MB)


def test_a_container_of_version_1_has_its_own_group_mounted(tmp_path: Path) -> None:
    """The path is the host's, and so is the mount's root; a group made inside lies below it."""
    process = seen(
        tmp_path,
        "4:memory:/docker/4d7a/inner\n2:cpu,cpuacct:/docker/4d7a\n",
        ("cgroup cgroup rw,memory", "/docker/4d7a", "memory"),
        ("cgroup cgroup rw,cpu,cpuacct", "/docker/4d7a", "cpu"),
    )
    put(tmp_path / "memory", memory__limit_in_bytes=800 * MB)
    put(tmp_path / "memory/inner", memory__limit_in_bytes=500 * MB)
    put(tmp_path / "cpu", cpu__cfs_quota_us=30000, cpu__cfs_period_us=100000)
    assert Machine.measure(process) == (0.3, 500 * MB)


@pytest.mark.parametrize("path", ["/", "/../../elsewhere", "/not/mounted"])
def test_a_container_of_version_2_sees_its_own_group_alone(tmp_path: Path, path: str) -> None:
    """Also a process that was moved into another group's namespace."""
    process = seen(tmp_path, f"0::{path}\n", ("cgroup2 cgroup rw", "/", "top"))
    put(tmp_path / "top", cpu__max="40000 100000", memory__max=400 * MB)
    put(tmp_path / "elsewhere", memory__max=MB)
    assert Machine.measure(process) == (0.4, 400 * MB)


def test_a_name_that_mountinfo_escapes(tmp_path: Path) -> None:
    r"""systemd writes ``my-app`` as ``my\x2dapp``, and mountinfo the backslash as ``\134``."""
    process = seen(
        tmp_path, "0::/my\\x2dapp.slice\n", ("cgroup2 cgroup rw", "/my\\134x2dapp.slice", "top")
    )
    assert group_folders("memory", process) == [tmp_path / "top"]


def test_where_there_is_none(tmp_path: Path) -> None:
    assert group_folders("cpu", tmp_path) == []
    assert available_memory(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


MEASURE = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from service.runtime.machine import Machine
print(Machine.measure().memory)
"""


def test_a_real_group_with_a_limit_above_it() -> None:
    limited, inner = "labelserve-test", "inner"
    with ExitStack() as made:
        try:
            top = group_folders("memory")[0] / limited
            for folder in (top, top / inner):
                folder.mkdir()
                made.callback(folder.rmdir)
            name = "memory.max" if (top / "memory.max").exists() else "memory.limit_in_bytes"
            (top / name).write_text(str(512 * 2**20), encoding="ascii")
        except (OSError, IndexError) as error:
            pytest.skip(f"control groups cannot be made here: {error}")
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(top / inner)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.split() == [str(512 * 2**20)], done.stderr
