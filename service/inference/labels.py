"""Labels of versions are moved here, each in one step, and every move is noted.

A label is a symbolic link beside the versions, or an entry of ``labels.json`` where the folder has
that file or its file system has no links. Its moves are lines of ``.labels.log`` there: the time,
the label, the number that it led to, and the one that it leads to.
"""

import errno
import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import SEEK_END, RawIOBase
from pathlib import Path

import msgspec

from service.inference.errors import LabelError, ModelNotFound
from service.inference.layout import (
    LABEL,
    LABELS_FILE,
    ModelLayout,
    read_labels_file,
    read_model_layout,
)

LOG = ".labels.log"

_NONE = "-"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def move_label(layout: ModelLayout, label: str, number: int) -> int | None:
    """Have a label lead to another version.

    Returns:
        The number that it led to; None if it is new, or led nowhere.

    Raises:
        LabelError: it cannot be moved; nothing has changed.
        ModelNotFound: the folder has gone.
    """
    check_label(layout, label)
    try:
        with _locked(layout.path) as log:
            layout = read_model_layout(layout.path)  # another command may have moved it meanwhile
            if number not in layout.versions:
                raise LabelError(
                    f"{layout.path} has no version {number}: there are"
                    f" {', '.join(map(str, sorted(layout.versions)))}"
                )
            before = layout.labels.get(label)
            if before != number:
                written = _written(layout.path, label)
                with _noted(log, f"{label} {before or _NONE} {number}"):
                    _move(layout, label, number, written)
    except OSError as error:
        raise LabelError(
            f"label {label!r} of {layout.path} cannot be moved: {error.strerror or error}"
        ) from error
    return before


def check_label(layout: ModelLayout, label: str) -> None:
    """Whether a model can have a label of this name.

    Raises:
        LabelError: it cannot.
    """
    if layout.path in layout.versions.values():
        raise LabelError(
            f"{layout.path} has no folders of versions to label: put the model file into one, such"
            " as 1/model.onnx"
        )
    if not LABEL.fullmatch(label):
        raise LabelError(
            f"{label!r} is no label: up to 128 letters, digits, '.', '_' and '-', not digits alone,"
            " and no '.' before them"
        )


def last_target(layout: ModelLayout, label: str) -> int:
    """The number that a label led to before the one that it leads to now.

    Raises:
        LabelError: that is not known.
    """
    check_label(layout, label)
    now = layout.labels.get(label)
    for moved, *numbers in reversed(_moves(layout.path)):
        for number in reversed(numbers):
            if moved == label and number not in (_NONE, str(now)):
                return int(number)
    raise LabelError(
        f"label {label!r} of {layout.path} has led to no other version, as far as {LOG} knows"
    )


def _moves(path: Path) -> list[list[str]]:
    """Label, number before and number after of each move that was noted, the oldest first."""
    try:
        lines = (path / LOG).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path / LOG} cannot be read: {error}") from error
    return [words[1:] for line in lines if len(words := line.split()) == 4]


@contextmanager
def _locked(path: Path) -> Iterator[RawIOBase]:
    """The list of moves, for one process at a time."""
    with (path / LOG).open("ab", buffering=0) as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield log


@contextmanager
def _noted(log: RawIOBase, move: str) -> Iterator[None]:
    """A line about a move; none of one that fails."""
    end = log.seek(0, SEEK_END)
    try:
        log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {move}\n".encode())
        yield
    except OSError:
        log.truncate(end)
        raise


def _written(path: Path, label: str) -> dict[str, int]:
    """What ``labels.json`` says; a label that it shares with a link cannot be moved in one step."""
    try:
        written = read_labels_file(path)
    except ModelNotFound as error:
        raise LabelError(str(error)) from error
    if label in written and (path / label).is_symlink():
        raise LabelError(
            f"label {label!r} of {path} is both a link and in {LABELS_FILE}: remove one of them"
        )
    return written


def _move(layout: ModelLayout, label: str, number: int, written: Mapping[str, int]) -> None:
    link, labels_file = layout.path / label, layout.path / LABELS_FILE
    if link.is_symlink() or not labels_file.exists():
        try:
            with _replacing(link) as draft:
                draft.symlink_to(layout.versions[number].name)
        except OSError as error:
            if link.is_symlink() or error.errno not in _NO_LINKS:
                raise
        else:
            return
    labels = {**written, label: number}
    with _replacing(labels_file) as draft:
        draft.write_bytes(msgspec.json.encode(labels, order="sorted") + b"\n")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Another path to be written, which then takes this one's place; nothing else is left."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # a killed command's
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
