"""Tensors from a file that PyTorch wrote before version 1.6, read without PyTorch.

The file is a row of pickles (a magic number, the format's version, what wrote it, the tensors'
descriptions, the storages' names), and behind them the storages' values. A pickle can name any
function of the machine and have it called; here it gets two, both ours, and nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from training.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _View:
    """Where a tensor lies in its storage: in elements, `strides` included."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The tensor, copied; its strides need not be those of its shape. Raises ValueError."""
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        inside = min(self.offset, *self.strides, 0) == 0 and last < len(values)
        if not inside or math.prod(self.shape) > len(values):
            raise ValueError("a tensor lies outside its storage")
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries of views; `types` has the storages that they name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.types: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> str:
        """The name of a storage."""
        kind, storage_type, key, *_ = pid
        if kind != "storage" or not isinstance(storage_type, np.dtype):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        self.types[key] = storage_type
        return str(key)


def _view(storage: str, offset: int, shape: Any, strides: Any, *_: Any) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


# What unpickling, or using what came out of it, may raise where bytes are wrong.
_MALFORMED: tuple[type[Exception], ...] = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
)


def read_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The file's tensors by name: float32 or int64, of any shape.

    Raises WeightsError for bytes that are no such file, are cut, or ask for more than tensors.
    """
    file = io.BytesIO(data)
    try:
        magic, version, _ = (_Unpickler(file).load() for _ in range(3))
        if (magic, version) != (MAGIC, VERSION):
            _refuse("it does not begin like a file of PyTorch before 1.6")
        unpickler = _Unpickler(file)
        views = unpickler.load()
        keys = _Unpickler(file).load()
        storages = {key: _storage(file, unpickler.types[key]) for key in keys}
        return {name: view.of(storages[view.storage]) for name, view in views.items()}
    except _MALFORMED as error:
        raise WeightsError(
            f"the weights cannot be read: {error or 'the file ends early'}"
        ) from error


def _storage(file: io.BytesIO, of_type: np.dtype[Any]) -> NDArray[Any]:
    """A storage: its length as int64, then its values."""
    (length,) = np.frombuffer(file.read(8), "<i8")
    values = file.read(int(length) * of_type.itemsize)
    return np.frombuffer(values, of_type, int(length))


def _refuse(reason: str) -> NoReturn:
    raise pickle.UnpicklingError(reason)
