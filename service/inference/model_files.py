"""Model files on disk: which file a path stands for, its bytes, and whether it has changed.

A path is a file, or a folder that has exactly one.
"""

import os
from pathlib import Path

from service.inference.errors import ModelNotFound

# What tells one state of a path from another, also behind a symbolic link that is switched: device,
# inode, size and time of change of each of its model files.
ModelState = tuple[tuple[int, int, int, int], ...]

_SUFFIX = ".onnx"
# How much of a folder a message lists.
_LISTED = 5


def model_file(path: Path) -> Path:
    """The model file that a path stands for: itself, or a folder's only ``.onnx`` file.

    Files whose names begin with a dot do not count.

    Raises:
        ModelNotFound: a folder that cannot be read, or has no such file or several.
    """
    if not is_folder(path):
        return path
    files = onnx_files(path)
    if len(files) == 1:
        return files[0]
    if files:
        raise ModelNotFound(
            f"model folder {path} has {len(files)} {_SUFFIX} files ({_listed(files)}):"
            " leave one there, or name the file"
        )
    others = visible(path)
    there = f"there is {_listed(others)}" if others else "it is empty"
    raise ModelNotFound(f"model folder {path} has no {_SUFFIX} file: {there}")


def model_state(path: Path) -> ModelState | None:
    """The state of a path's model file, or files; None where there is none."""
    try:
        files = onnx_files(path) if is_folder(path) else [path]
        stats = [os.stat(file) for file in files]  # noqa: PTH116  whatever the paths lead to
    except (OSError, ModelNotFound):
        return None
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in stats) or None


def model_size(path: Path) -> int:
    """Bytes of a path's model file; 0 for one that is missing, which is reported when opened."""
    return size_in(model_state(path))


def size_in(state: ModelState | None) -> int:
    """Bytes of the model file in a state; 0 where there is none, or several."""
    return state[0][2] if state and len(state) == 1 else 0


def read_model(path: str | os.PathLike[str]) -> bytes:
    """A model file's bytes.

    Raises:
        ModelNotFound: no such file, or not readable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ModelNotFound(f"model file {path} cannot be read: {reason}") from error


def onnx_files(folder: Path) -> list[Path]:
    """A folder's ``.onnx`` files, by their names.

    Raises:
        ModelNotFound: it cannot be read.
    """
    return [f for f in visible(folder) if f.suffix.lower() == _SUFFIX and not is_folder(f)]


def is_folder(path: Path) -> bool:
    """Whether there is a folder; not of one that may not be looked at (``Path.is_dir`` raises)."""
    return os.path.isdir(path)  # noqa: PTH112


def visible(folder: Path) -> list[Path]:
    """What a folder holds, by name, without names that begin with a dot.

    Raises:
        ModelNotFound: it cannot be read.
    """
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        reason = error.strerror or error
        raise ModelNotFound(f"model folder {folder} cannot be read: {reason}") from error


def _listed(files: list[Path]) -> str:
    names = [file.name for file in files[:_LISTED]]
    return ", ".join(names + ["…"] * (len(files) > _LISTED))
