"""Folders that services which are gone have left, beside those of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.runtime.shared_folder import PREFIX, make_folder
from tests.server import eventually

MAKE = """
import os, sys
from service.runtime.shared_folder import make_folder
others = []
for _ in range(3):
    others.append(os.fork())
    if not others[-1]:
        others.clear()
        break
mine = [make_folder(sys.argv[1]) for _ in range(40)]
kept = all(folder.is_dir() for folder in mine)
for pid in others:
    kept &= os.waitpid(pid, 0)[1] == 0
sys.exit(not kept)
"""


def test_services_that_start_at_the_same_moment_keep_their_folders(tmp_path: Path) -> None:
    """None takes another's new folder, which has no lock for a moment, for one that was left."""
    subprocess.run([sys.executable, "-c", MAKE, tmp_path], check=True)
    assert not any(tmp_path.iterdir())  # all of them were removed at the end


def test_a_folder_belongs_to_the_workers_too(tmp_path: Path) -> None:
    """A worker outlives a master that was killed by a moment, or hangs for longer."""
    worker = (
        "import os, time; from service.runtime.shared_folder import make_folder;"
        f"folder = make_folder({str(tmp_path)!r}); master = os.getpid(); pid = os.fork();"
        "print(pid, flush=True) if pid else None;"
        "os.kill(master, 9) if pid else time.sleep(60)"
    )
    command = [sys.executable, "-c", worker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout is not None
        pid = int(master.stdout.readline())
        master.wait()
        (left,) = tmp_path.iterdir()
        own = make_folder(str(tmp_path))
        assert set(tmp_path.iterdir()) == {left, own}
        os.kill(pid, 9)
        master.stdout.read()  # to the end of the worker
    later: set[Path] = set()

    def gone() -> bool:
        later.add(make_folder(str(tmp_path)))
        return set(tmp_path.iterdir()) == {own, *later}

    assert eventually(gone)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    place = tmp_path / "place"
    place.mkdir()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}file").touch()
    (place / "labelserve-of-an-earlier-version").mkdir()
    before = set(place.iterdir())
    make_folder(str(place))
    assert before < set(place.iterdir())
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: another user's folder; only root may")
def test_another_users_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}other"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    make_folder(str(tmp_path))
    assert folder.is_dir()
