"""A file of PyTorch's is read without running anything that it names."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import sys
import types
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.errors import WeightsError
from training.networks.torch_file import MAGIC, VERSION, read_tensors

VALUES = np.arange(12, dtype="<f4")


class Storage:
    """What PyTorch pickles by reference."""


class Rebuilt:
    """A tensor that pickles as PyTorch's do: a call of `_rebuild_tensor_v2`."""

    def __init__(self, function: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self._call: Any = function, (Storage(), 0, shape, strides, False, collections.OrderedDict())

    def __reduce__(self) -> Any:
        return self._call


def torch_function() -> Any:
    """A function that a pickle names as PyTorch's."""

    def _rebuild_tensor_v2(*_: Any) -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
    return _rebuild_tensor_v2


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As much of PyTorch as pickling looks for."""
    package, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})
    package.FloatStorage, package._utils = storage, utils  # type: ignore[attr-defined]
    utils._rebuild_tensor_v2 = torch_function()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", package)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return package


def a_file(torch: Any, tensors: dict[str, Any], values: NDArray[Any] = VALUES) -> bytes:
    """Such a file, of one storage."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Storage):
                return "storage", torch.FloatStorage, "0", "cpu", len(values), None
            return None

    file = io.BytesIO()
    for header in (MAGIC, VERSION, {"little_endian": True}):
        pickle.dump(header, file, protocol=2)
    Pickler(file, protocol=2).dump(tensors)
    pickle.dump(["0"], file, protocol=2)
    return file.getvalue() + struct.pack("<q", len(values)) + values.tobytes()


def test_a_tensor_has_its_strides(torch: Any) -> None:
    rebuild = torch._utils._rebuild_tensor_v2
    whole, turned = Rebuilt(rebuild, (3, 4), (4, 1)), Rebuilt(rebuild, (4, 3), (1, 4))
    found = read_tensors(a_file(torch, {"whole": whole, "turned": turned}))
    np.testing.assert_array_equal(found["whole"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found["turned"], VALUES.reshape(3, 4).T)


@pytest.mark.parametrize(
    ("shape", "strides"), [((3, 5), (5, 1)), ((4,), (-1,)), ((2**40,), (0,)), ((13,), (1,))]
)
def test_a_tensor_outside_its_storage_is_refused(
    torch: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    tensor = Rebuilt(torch._utils._rebuild_tensor_v2, shape, strides)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_tensors(a_file(torch, {"tensor": tensor}))


def test_nothing_that_a_pickle_names_is_called(torch: Any) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("called",)

    with pytest.raises(WeightsError, match=r"it wants \w+\.print, which is no part"):
        read_tensors(a_file(torch, {"tensor": Evil()}))


def test_a_file_that_is_cut_or_of_another_kind_is_refused(torch: Any) -> None:
    whole = a_file(torch, {"tensor": Rebuilt(torch._utils._rebuild_tensor_v2, (12,), (1,))})
    read_tensors(whole)
    for data in (b"", b"PK\x03\x04", *(whole[:end] for end in range(0, len(whole), 7))):
        with pytest.raises(WeightsError):
            read_tensors(data)
