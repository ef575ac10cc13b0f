"""The control groups that this process is in: where Linux keeps limits of cores and memory."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


def group_folders(controller: str, process: Path = PROCESS) -> list[Path]:
    """The folders of a controller's groups, of this process's own and of all above it.

    A limit holds for the groups below it too: a service of systemd's has its slices' limits, and a
    container that sees the host's groups (``--cgroupns host``) finds its own below them. Groups
    above those that are mounted here are not seen.

    Args:
        controller: ``cpu`` or ``memory``.
        process: a folder with the files ``cgroup`` and ``mountinfo`` (proc(5), cgroups(7)).
    """
    folders: list[Path] = []
    try:
        groups = dict(_groups(controller, process))
        for kind, root, point in _mounts(controller, process):
            if kind in groups:
                folders += _upwards(groups[kind], root, point)
    except OSError:  # no Linux, or no /proc
        pass
    return folders


def _groups(controller: str, process: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """The path of this process's group in the hierarchies of version 2 and 1, by file system."""
    for line in _lines(process / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "cgroup2", PurePosixPath(path)
        elif controller in controllers.split(","):
            yield "cgroup", PurePosixPath(path)


def _mounts(controller: str, process: Path) -> Iterator[tuple[str, PurePosixPath, Path]]:
    """File system, the group that is mounted, and where: of each hierarchy with the controller."""
    for line in _lines(process / "mountinfo"):
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            root, point = (_unescaped(field) for field in mount.split(" ")[3:5])
            yield kind, PurePosixPath(root), Path(point)


def _upwards(group: PurePosixPath, root: PurePosixPath, point: Path) -> list[Path]:
    """A group's folder and those above it, up to the mount point."""
    below = PurePosixPath()
    # Otherwise the group lies outside of this namespace, whose root is the mount point.
    if group.is_relative_to(root) and ".." not in group.parts:
        below = group.relative_to(root)
    return [point / part for part in (below, *below.parents)]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[:-1]


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)
