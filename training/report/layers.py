"""The layers of a model file, and what each of them answers.

The graph is the file's own, with values between its operators as outputs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# First, because it switches onnxruntime's telemetry off before that is imported.
from service.inference.contract import INPUT_NAME

import numpy as np  # isort: skip
import onnx  # isort: skip
import onnxruntime as ort  # isort: skip
from numpy.typing import NDArray  # isort: skip

from training.export.familiarity import without_familiarity  # isort: skip

Array = NDArray[Any]

# What belongs to the layer before it: an activation, a normalisation, a bias.
_FOLLOWERS = {
    *("Abs", "Add", "BatchNormalization", "Cast", "Clip", "DequantizeLinear", "Elu", "Erf", "Exp"),
    *("Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mul", "Neg"),
    *("QuantizeLinear", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh"),
}
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_WHOLE = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")  # see all of the image
_WITHOUT_PIXELS = ("Shape", "Size")  # their answers do not depend on pixels


@dataclass(frozen=True)
class Layer:
    """What a person calls a layer.

    `answer` names the value that it passes on, after its activation. `shape` is the answer's,
    without the batch: [C, H, W] or [values]. `weights` names its weights; "" where it has none.
    `learned` counts the learned numbers. `seen`: the side of the square of pixels that one value
    depends on. `step`: the distance in pixels between the squares of neighbouring values.
    """

    title: str
    answer: str
    weights: str
    shape: tuple[int, ...]
    learned: int
    seen: int
    step: int

    @property
    def is_spatial(self) -> bool:
        """Whether its answers are maps of an image."""
        return len(self.shape) == 3 and min(self.shape[1:]) > 1


class Network:
    """An ONNX graph that takes `image` and gives `probabilities`, looked into."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """`size`: (height, width) of its images."""
        self._model = model
        graph = model.graph
        (entry,) = (value for value in graph.input if value.name == INPUT_NAME)
        _, height, width, _ = entry.type.tensor_type.shape.dim
        self.size = (height.dim_value, width.dim_value)
        self._stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        self._moving = self._reached_by_pixels()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a file that `Classifier.load` has accepted."""
        return cls(without_familiarity(onnx.load(path)))  # which has learned nothing

    def values(self, images: NDArray[np.uint8], names: Sequence[str]) -> dict[str, Array]:
        """Values inside the graph, by name, for uint8 [N, H, W, 3]."""
        if not names:
            return {}
        results = self._session(tuple(names)).run(list(names), {INPUT_NAME: images})
        return dict(zip(names, results, strict=True))

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Convolutions, pools and fully connected layers, from the pixels to the answer."""
        values = self._black | self._stored
        fields = self._fields(values)
        counts = {"convolution": 0, "pooling": 0, "fully connected": 0}
        found = []
        for node in self._model.graph.node:
            kind = self._kind(node, values)
            if kind is not None:
                counts[kind] += 1
                field = fields[node.output[0]]
                found.append(self._layer(f"{kind} {counts[kind]}", node, values, field))
        return tuple(found)

    def first_filters(self) -> NDArray[np.float32] | None:
        """The first convolution's weights for red, green and blue, [filters, 3, height, width].

        None if it does not look at colours.
        """
        node = next((node for node in self._model.graph.node if node.op_type == "Conv"), None)
        if node is None:
            return None
        weights = (self._black | self._stored)[node.input[1]]
        if weights.ndim != 4 or weights.shape[1] != 3:
            return None
        order = self._channels(node.input[0])
        return weights[:, order] if len(set(order)) == 3 else None

    def _channels(self, name: str) -> list[int]:
        """Which channel of a value, [N, C, H, W], is red, green and blue, as some want BGR."""
        colours = np.zeros((3, *self.size, 3), np.uint8)
        colours[range(3), ..., range(3)] = 255
        changes = np.abs(self.values(colours, [name])[name] - self._black[name])
        return [int(channel) for channel in changes.mean(axis=(2, 3)).argmax(axis=1)]

    @functools.cached_property
    def _black(self) -> dict[str, Array]:
        """Every value that an operator gives for a black image; weights may be among them."""
        names = [name for node in self._model.graph.node for name in node.output if name]
        return self.values(np.zeros((1, *self.size, 3), np.uint8), names)

    def _kind(self, node: onnx.NodeProto, values: dict[str, Array]) -> str | None:
        if node.op_type == "Conv":
            return "convolution"
        if node.op_type in _POOLS or self._is_global_pool(node, values):
            return "pooling"
        product = node.op_type in ("MatMul", "Gemm") and node.input[1] not in self._moving
        return "fully connected" if product and node.input[0] in self._moving else None

    def _is_global_pool(self, node: onnx.NodeProto, values: dict[str, Array]) -> bool:
        """A mean or largest value over a whole map, as exporters write global pooling."""
        if node.op_type not in ("ReduceMean", "ReduceMax") or node.input[0] not in self._moving:
            return False
        return node.input[0] in values and values[node.input[0]].ndim == 4

    def _layer(
        self, title: str, node: onnx.NodeProto, values: dict[str, Array], field: tuple[int, int]
    ) -> Layer:
        weights = node.input[1] if len(node.input) > 1 and "pool" not in title else ""
        learned = sum(values[name].size for name in node.input[1:3] if weights and name)
        answer = node.output[0]
        for follower in self._followers(answer):
            if weights and follower.op_type == "Add":
                learned += sum(values[x].size for x in follower.input if x not in self._moving)
            answer = follower.output[0]
        return Layer(title, answer, weights, tuple(values[answer].shape[1:]), learned, *field)

    def _followers(self, name: str) -> list[onnx.NodeProto]:
        """What is done to each value alone before anything else sees it, the softmax apart."""
        found: list[onnx.NodeProto] = []
        while True:
            users = [node for node in self._model.graph.node if name in node.input]
            if len(users) != 1 or users[0].op_type not in _FOLLOWERS:
                return found
            if sum(x in self._moving for x in users[0].input) != 1:
                return found  # a sum with another branch
            found.append(users[0])
            name = users[0].output[0]

    def _reached_by_pixels(self) -> set[str]:
        moving = {INPUT_NAME}
        for node in self._model.graph.node:
            if node.op_type not in _WITHOUT_PIXELS and moving & set(node.input):
                moving.update(node.output)
        return moving

    def _fields(self, values: dict[str, Array]) -> dict[str, tuple[int, int]]:
        """Each value's receptive field and step in pixels, along the side where they are larger.

        Dumoulin, Visin, A guide to convolution arithmetic for deep learning (2016).
        """
        whole = max(self.size)
        fields = {INPUT_NAME: (1, 1)}
        for node in self._model.graph.node:
            before = [fields[name] for name in node.input if name in fields]
            if not before or node.op_type in _WITHOUT_PIXELS:
                continue
            seen, step = (max(lengths) for lengths in zip(*before, strict=True))
            if node.op_type in _WHOLE:
                seen = whole
            elif node.op_type in ("Conv", "MaxPool", "AveragePool"):
                kernel, stride = _kernel(node, values)
                seen, step = min(whole, seen + (kernel - 1) * step), step * stride
            fields.update(dict.fromkeys(node.output, (seen, step)))
        return fields

    @functools.lru_cache(maxsize=32)  # noqa: B019 - a network lives as long as the command
    def _session(self, names: tuple[str, ...]) -> ort.InferenceSession:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:], model.graph.value_info[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


def _kernel(node: onnx.NodeProto, values: dict[str, Array]) -> tuple[int, int]:
    """The larger side of a filter or pool with its gaps, and its larger stride, in values."""
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    sides = attributes.get("kernel_shape") or values[node.input[1]].shape[2:]
    gaps = attributes.get("dilations") or [1] * len(sides)
    reach = max((side - 1) * gap + 1 for side, gap in zip(sides, gaps, strict=True))
    return reach, max(attributes.get("strides") or [1])
