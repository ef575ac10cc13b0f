"""Machines of a test's own, as far as network and cores go: namespaces, and control groups.

Each has an address that leads nowhere else (TEST-NET-1), on a switch in the network of the process
that makes them, which should be one without another way out: ``unshare --net``.
"""

import os
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from service.runtime.cgroups import group_folders
from tests.server import eventually

# A tenth of the usual: a part of a core should act as a slow core, and not as one that pauses.
PERIOD_MICROSECONDS = 10_000
_SWITCH = "switch"
_OWN = "192.0.2.1/24"


class CannotMake(Exception):
    """This system lets no such machines be made; the message says why."""


class Hosts:
    """A switch with machines; all of them are gone at the end of the ``with`` block."""

    def __enter__(self) -> Self:
        self._made = ExitStack()
        _ip("link", "set", "lo", "up")
        _ip("link", "add", _SWITCH, "type", "bridge")
        self._made.callback(_ip, "link", "del", _SWITCH)
        _ip("addr", "add", _OWN, "dev", _SWITCH)
        _ip("link", "set", _SWITCH, "up")
        return self

    def add(self, number: int, cores: float) -> "Host":
        """One more machine, the ``number``th (1 to 200), with this part of a core."""
        return self._made.enter_context(Host(number, cores))

    def __exit__(self, *_exception: object) -> None:
        self._made.close()


class Host:
    """One machine. ``command`` stands before a command that is to run on it."""

    def __init__(self, number: int, cores: float) -> None:
        self.address = f"192.0.2.{10 + number}"
        self._port = f"port{number}"
        self._group = f"labelserve-host-{number}"
        self._cores = cores
        self.command: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        with ExitStack() as made:
            group = _make_group(self._group, self._cores, made)
            inside = self._make_network(made)
            join = f'echo $$ >{group}/cgroup.procs && exec "$@"'
            self.command = (*inside, "sh", "-c", join, "sh")
            self._made = made.pop_all()
        return self

    def unplug(self) -> None:
        """Take its cable out: what is sent to it is lost, and nothing says so."""
        _ip("link", "set", self._port, "down")

    def __exit__(self, *_exception: object) -> None:
        self._made.close()

    def _make_network(self, made: ExitStack) -> tuple[str, ...]:
        # It lives as long as a process is in it; this one until its standard input is closed.
        keeper = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        made.callback(keeper.communicate)
        network, own = (Path(f"/proc/{pid}/ns/net") for pid in (keeper.pid, os.getpid()))
        if not eventually(lambda: network.readlink() != own.readlink(), 5):
            raise CannotMake("no network of its own can be made here (unshare --net)")
        peer = ("peer", "name", "eth0", "netns", str(keeper.pid))
        _ip("link", "add", self._port, "type", "veth", *peer)
        _ip("link", "set", self._port, "master", _SWITCH, "up")
        inside = ("nsenter", f"--net={network}")
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _run(*inside, "ip", *words)
        return inside


def _make_group(name: str, cores: float, made: ExitStack) -> Path:
    """A control group that may use this part of a core, and gets it whatever else runs."""
    quota = round(cores * PERIOD_MICROSECONDS)
    version_2 = {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}", "cpu.weight": "10000"}
    version_1 = {
        "cpu.cfs_period_us": str(PERIOD_MICROSECONDS),
        "cpu.cfs_quota_us": str(quota),
        "cpu.shares": "262144",
    }
    try:
        for above in group_folders("cpu"):
            group = above / name
            group.mkdir(exist_ok=True)
            made.callback(_remove, group)
            for limits in (version_2, version_1):
                if all((group / file).exists() for file in limits):
                    for file, value in limits.items():
                        (group / file).write_text(value, encoding="ascii")
                    return group
    except OSError as error:
        raise CannotMake(f"no control group can be made here: {error}") from error
    raise CannotMake("no control group here limits cores")


def _remove(group: Path) -> None:
    """Once the processes in it, which have been killed, are gone."""

    def gone() -> bool:
        with suppress(OSError):
            group.rmdir()
        return not group.exists()

    eventually(gone, 5)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMake(f"{' '.join(command)}: {done.stderr.strip()}")
