"""Decoded images in a file, read as they are asked for.

A data set of any size takes the same memory: pixels are written one after another while they are
decoded, and only the rows of a batch are read again. What was read lately stays in the system's
cache of files, which gives way where memory is short.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from training.atomic_files import make_folder


class Images(Protocol):
    """Images uint8 [N, H, W, 3], in memory or not: an array is one, and so is a PixelFile."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, 3."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """The images at a slice or at an array of indices, as an array."""
        ...


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Indices of `most` of `count` things, or of all, evenly spread from the first to the last."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


class PixelFile:
    """A part of a file of images, to be asked like an array: by a slice or an array of indices."""

    def __init__(self, path: Path, first: int, count: int, size: tuple[int, int]) -> None:
        self.path = path
        self._first = first
        self.shape = (count, *size, 3)
        self._row = size[0] * size[1] * 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)))
        indices = np.asarray(key)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"there are {len(self)} images")
        found = np.empty((len(indices), *self.shape[1:]), np.uint8)
        if len(indices):
            self._fill(found, indices)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it, in memory: for tests and small sets."""
        return np.asarray(self[:], dtype)

    def _fill(self, found: NDArray[np.uint8], indices: NDArray[np.integer[Any]]) -> None:
        rows = found.reshape(-1).data
        # Neighbours are read at one go.
        ends = np.append(np.flatnonzero(np.diff(indices) != 1) + 1, len(indices))
        start = 0
        with self.path.open("rb", buffering=0) as file:
            for end in ends.tolist():
                file.seek((self._first + int(indices[start])) * self._row)
                self._read(file, rows[start * self._row : end * self._row])
                start = end

    def _read(self, file: io.FileIO, into: memoryview) -> None:
        done = 0
        while done < len(into):
            count = file.readinto(into[done:])
            if not count:
                raise OSError(f"{self.path} is shorter than it was")
            done += count


class PixelWriter:
    """Writes a file of images that appears under its name when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".draft")
        self.count = 0

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        self._file = self._draft.open("wb")
        return self

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append one image, uint8 [H, W, 3]."""
        self._file.write(np.ascontiguousarray(image).data)
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None:
            self._draft.replace(self._path)
        else:
            self._draft.unlink(missing_ok=True)
