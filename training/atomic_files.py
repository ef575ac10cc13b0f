"""Files that are never seen half-written: a draft beside the destination, then a rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from training.errors import ExportError


def draft_path(path: Path) -> Path:
    """A hidden neighbour of `path`, on the same file system, of this process alone."""
    # Not tempfile's: those are readable by their owner only, and a rename would keep that.
    return path.with_name(f".{path.name}.{os.getpid()}.draft")


def remove_drafts(*paths: Path) -> None:
    """Remove the drafts of these files that killed processes left behind."""
    for path in paths:
        for draft in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.draft"):
            with contextlib.suppress(OSError):  # it does no harm
                draft.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OSError, which names a file that is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise NotADirectoryError(errno.ENOTDIR, f"{file} is a file and no folder") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears with all of its content or not at all. Raises OSError."""
    draft = draft_path(path)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def drafted(path: Path, kind: str = "model file") -> Iterator[Path]:
    """A draft of a file of this kind; it takes the file's place when the block ends well.

    Raises:
        ExportError: naming the file, and why it cannot be written.
    """
    draft = draft_path(path)
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise ExportError(f"{kind} {path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def require_writable(path: Path, kind: str = "model file") -> None:
    """Find out now whether `path`, a file of this kind, can be written later; its folders are made.

    Raises:
        ExportError: naming the file, and why not.
    """
    if path.is_dir():
        raise ExportError(f"{kind} {path} cannot be written: it is a folder")
    draft = draft_path(path)
    try:
        make_folder(path.parent)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise ExportError(f"{kind} {path} cannot be written: {error.strerror or error}") from error
