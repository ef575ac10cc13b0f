"""A graph from elsewhere, opened: what image it takes, what it answers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from service.inference.classifier import CPU
from service.inference.foreign_files import foreign_kind
from training.errors import AdoptionError

Layout = Literal["nchw", "nhwc"]
CHANNELS = (3, 1)
TYPES: dict[int, Any] = {
    TensorProto.UINT8: np.uint8,
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
}
# Whose operators onnxruntime has; those of other domains have to be functions of the model.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal")
FLOATING = ("tensor(float)", "tensor(float16)", "tensor(double)")
LONGEST_REASON = 300  # characters
LARGEST_FILE = 2**31 - 1  # of a protobuf message


@dataclass(frozen=True)
class ImageInput:
    """The input that takes an image.

    `type`: ONNX's number of its elements' type. `layout`: None where the shape does not tell.
    `size`: height and width. `batch`: images at a time. Both None where they are free.
    """

    name: str
    type: int
    layout: Layout | None
    size: tuple[int, int] | None
    channels: int
    batch: int | None


def read(path: Path) -> onnx.ModelProto:
    """An ONNX file with the data that lie beside it. Raises AdoptionError."""
    require_possible(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise AdoptionError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # of protobuf, which has no types
        raise AdoptionError(f"{path} is no ONNX file, or not the whole of one") from error
    _take_in(model, path)
    if not model.graph.node:
        raise AdoptionError(f"{path} is no ONNX file: it has no graph")
    if model.ByteSize() > LARGEST_FILE:
        raise AdoptionError(f"{path}: with its data it is over 2 GB, the most an ONNX file may be")
    return model


def _take_in(model: onnx.ModelProto, path: Path) -> None:
    """Load the data that lie in other files, into the model. Raises AdoptionError."""
    tensors = [each for each in model.graph.initializer if each.external_data]
    places = {
        item.value for each in tensors for item in each.external_data if item.key == "location"
    }
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx's own, OSError, of numbers that are none, ...
        missing = sorted(place for place in places if not (path.parent / place).is_file())
        reason = f"{missing[0]} is not there" if missing else first_line(error)
        raise AdoptionError(
            f"{path} keeps its weights in other files, which have to lie beside it: {reason}"
        ) from error


def first_line(error: Exception) -> str:
    """What an exception of another library says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_possible(path: Path, signs: tuple[bytes, ...] = ()) -> None:
    """Raise AdoptionError for what is known to be something else, and say what it is.

    `signs`: what files of the kind that is wanted may begin with.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise AdoptionError(f"{path} cannot be read: {error.strerror or error}") from error
    kind = None if head.startswith(signs) else foreign_kind(head)
    if kind is not None:
        raise AdoptionError(f"{path} {kind}")


def image_input(model: onnx.ModelProto, where: str) -> ImageInput:
    """The one input that takes images. Raises AdoptionError where there is none, or others too."""
    stored = {tensor.name for tensor in model.graph.initializer}  # inputs too, in old files
    inputs = [value for value in model.graph.input if value.name not in stored]
    found = [seen for value in inputs if (seen := _as_image(value))]
    if not found:
        shapes = ", ".join(map(described, inputs)) or "no input at all"
        raise AdoptionError(
            f"{where} takes no image: {shapes}; an input of four dimensions, 3 or 1 of them "
            "channels, is wanted"
        )
    others = [value for value in inputs if value.name != found[0].name]
    if others:
        raise AdoptionError(
            f"{where} takes more than the image {found[0].name}: "
            f"{', '.join(map(described, others))}; export it without"
        )
    image = found[0]
    if image.type not in TYPES:
        kind = TensorProto.DataType.Name(image.type).lower()
        raise AdoptionError(f"{where} takes {kind}; uint8 or floating-point pixels are wanted")
    return image if image.layout else replace(image, layout=_layout_by_use(model.graph, image.name))


def _as_image(value: onnx.ValueInfoProto) -> ImageInput | None:
    """What this input is, if it may be an image."""
    kind = value.type.tensor_type
    sizes = [size.dim_value or None for size in kind.shape.dim]
    if len(sizes) != 4:
        return None
    first, last = sizes[1] in CHANNELS, sizes[3] in CHANNELS
    layout: Layout | None = None if first == last else "nchw" if first else "nhwc"
    if layout is None and all(sizes[1:]) and not first:  # neither is one of colours
        return None
    height, width = sizes[2:] if layout == "nchw" else sizes[1:3]
    channels = sizes[1] if layout == "nchw" else sizes[3]
    size = (height, width) if layout and height and width else None
    return ImageInput(value.name, kind.elem_type, layout, size, channels or 3, sizes[0])


def _layout_by_use(graph: onnx.GraphProto, name: str) -> Layout | None:
    """What the first operator says that is not the same for any layout."""
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1:
            return None
        (user,) = users
        if user.op_type == "Conv":
            return "nchw"
        if user.op_type == "Transpose":
            order = next((list(item.ints) for item in user.attribute if item.name == "perm"), None)
            return "nhwc" if order == [0, 3, 1, 2] else None
        if user.op_type not in ("Cast", "Mul", "Add", "Sub", "Div", "Identity"):
            return None
        name = user.output[0]


def described(value: onnx.ValueInfoProto) -> str:
    """`images float32 [batch, 3, 224, 224]`."""
    kind = value.type.tensor_type
    sizes = ", ".join(str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)
    return f"{value.name} {TensorProto.DataType.Name(kind.elem_type).lower()} [{sizes}]"


class ForeignGraph:
    """A graph that onnxruntime has opened. `outputs`: names of those that are tensors."""

    def __init__(self, model: onnx.ModelProto, image: ImageInput, where: str) -> None:
        """Raise AdoptionError where onnxruntime does not open it, naming unknown operators."""
        self.image = image
        self.where = where
        self.session = _session(model, where)
        self.outputs = [each.name for each in self.session.get_outputs() if each.type in FLOATING]

    def answers(self, pixels: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.float32]]:
        """What each output gives for [N, H, W, channels], normalised; [N, ...], in floats.

        Images are asked one by one, which no graph mixes up; where it takes so many at a time,
        the last ones are filled up. Raises AdoptionError.
        """
        if not self.outputs:  # onnxruntime would take that for all of them
            return {}
        is_whole = self.image.type == TensorProto.UINT8
        values = (pixels + 0.5 if is_whole else pixels).astype(TYPES[self.image.type])
        if self.image.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        size = self.image.batch or 1
        parts = []
        for i in range(0, len(values), size):
            part = values[i : i + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append([found[: len(part)] for found in self._run(filled)])
        joined = (np.concatenate(each) for each in zip(*parts, strict=True))
        return {
            name: found.astype(np.float32) for name, found in zip(self.outputs, joined, strict=True)
        }

    def _run(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        feed = {self.image.name: np.ascontiguousarray(values)}
        try:
            found = self.session.run(self.outputs, feed)
        except Exception as error:  # onnxruntime's exceptions share no other base
            shape = "x".join(map(str, values.shape))
            raise AdoptionError(
                f"{self.where} does not answer an input of {shape}: {reason(error)}"
            ) from error
        # A batch of one may have been squeezed out of the answer.
        return [each if each.shape[:1] == (len(values),) else each[None] for each in found]


def _session(model: onnx.ModelProto, where: str) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model.SerializeToString(), quiet(), providers=[CPU])
    except Exception as error:  # as above
        unknown = ", ".join(unknown_operators(model))
        why = f"it has no operator {unknown}" if unknown else reason(error)
        raise AdoptionError(f"{where} cannot be opened by onnxruntime: {why}") from error


def quiet() -> ort.SessionOptions:
    """All cores, and no lines of onnxruntime's own: what goes wrong is raised."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.log_severity_level = 4
    return options


def unknown_operators(model: onnx.ModelProto) -> list[str]:
    """Operators that neither onnxruntime nor the model itself knows."""
    own = {(function.domain, function.name) for function in model.functions}
    found = {
        f"{node.domain}.{node.op_type}".lstrip(".")
        for node in model.graph.node
        if (node.domain, node.op_type) not in own and not _is_known(node)
    }
    return sorted(found)


def _is_known(node: onnx.NodeProto) -> bool:
    if node.domain in ("", "ai.onnx"):
        return bool(onnx.defs.has(node.op_type))
    return node.domain in DOMAINS


def reason(error: Exception) -> str:
    """What onnxruntime says, without its codes, its sources' places and its advice."""
    text = first_line(error).partition("Status Message: ")[2] or first_line(error)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(
        r"^(Load model from .*? failed:)|^\S*/\S+\.(cc|h):\d+ (.*?\)(?= )( const)?)?", "", text
    )
    return text.strip()[:LONGEST_REASON]
