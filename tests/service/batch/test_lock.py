"""One command at a time writes to an output."""

import fcntl
import os
from pathlib import Path

import pytest

from service.batch.errors import Busy, Refused
from service.batch.lock import locked


def test_nothing_is_left_and_it_can_be_had_again(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    for _ in range(2):
        with locked(output), pytest.raises(Busy, match="by another command"), locked(output):
            pass
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_command_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".out.csv.lock").touch()
    with locked(tmp_path / "out.csv"):
        pass


def test_a_file_that_its_owner_removes_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened before, and locked after: the next command would lock a new one."""
    output, path = tmp_path / "out.csv", tmp_path / ".out.csv.lock"
    flock = fcntl.flock
    calls: list[int] = []

    def flock_late(descriptor: int, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with locked(output):
        assert len(calls) == 2
        with pytest.raises(Busy), locked(output):
            pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with locked(tmp_path / "out.csv"), locked(tmp_path / "out.csv"):
        pass


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be written"), locked(tmp_path / "no" / "out.csv"):
        pass
