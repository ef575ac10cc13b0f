"""The folder in shared memory where the workers of one service keep their metrics' files.

It belongs to whoever holds a lock on it: the master, and the workers, which inherit the lock. So
the folder of a service that was killed is known by its lock being free.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

# Not ``labelserve-*``: earlier commits made such folders without a lock, and may still be running.
PREFIX = "labelserve-metrics-"


def make_folder(parent: str | None) -> Path:
    """A new folder, removed when this process ends. Folders of services that are gone go first.

    Args:
        parent: where to make it; None for the system's place of temporary files.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(parent or tempfile.gettempdir())
    for left in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # in use, or being removed by another start
            _remove_if_free(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        with suppress(FileNotFoundError):  # another start took it for one that was left
            descriptor = _lock(folder, wait=True)
            if folder.exists():
                break
            os.close(descriptor)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove_if_free(folder: Path) -> None:
    if folder.lstat().st_uid == os.geteuid():  # root could remove those of others
        descriptor = _lock(folder, wait=False)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _lock(folder: Path, *, wait: bool) -> int:
    """Own the folder for as long as the descriptor is open in this process or one forked from it.

    Raises:
        OSError: there is no such folder, or it has an owner (unless this waits for it).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # workers end with the same handlers
        shutil.rmtree(folder, ignore_errors=True)
