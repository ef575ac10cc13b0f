"""A model file opened up: every value inside of it, and gradients with respect to the pixels.

The graph is the file's own, with two changes: the pixels are floats, so that they can be changed a
little, and every value between two operators is an output as well.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# First, because it switches onnxruntime's telemetry off before that is imported.
from service.inference.contract import INPUT_NAME, OUTPUT_NAME

import numpy as np  # isort: skip
import onnx  # isort: skip
import onnxruntime as ort  # isort: skip
from numpy.typing import NDArray  # isort: skip

from training.report.derivatives import ELEMENTWISE, Array, Step, backward

Values = dict[str, Array]

# What an activation is made of where it directly follows a layer.
_FOLLOWERS = {*ELEMENTWISE, "BatchNormalization", "Add", "Mul"} - {"Dropout"}
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_WITHOUT_GRADIENT = ("Shape", "Size")
_RUN_ERRORS = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)


@dataclass(frozen=True)
class Layer:
    """What a person calls a layer.

    `answer` names the value that it passes on, after its activation; `linear` what its weights
    give, before that. `shape` is the answer's, without the batch: [C, H, W] or [values].
    `learned` counts its weights. `weights` names them; "" where it has none.
    """

    title: str
    answer: str
    linear: str
    weights: str
    shape: tuple[int, ...]
    learned: int

    @property
    def is_spatial(self) -> bool:
        """Whether its answers are maps of a picture."""
        return len(self.shape) == 3 and min(self.shape[1:]) > 1


class Network:
    """An ONNX graph that takes `image` and gives `probabilities`, looked into."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copies the model. Its own input may be uint8; `trace` takes floats of 0 to 255."""
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        del graph.value_info[:]
        (entry,) = (value for value in graph.input if value.name == INPUT_NAME)
        entry.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        dims = entry.type.tensor_type.shape.dim
        self.size = (dims[1].dim_value, dims[2].dim_value)
        dims[1].dim_param, dims[2].dim_param = "height", "width"  # see `takes`
        self._nodes = list(graph.node)
        self._stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        self._maker = {name: node for node in self._nodes for name in node.output}
        self._moving = self._reached_by_pixels()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a file that `Classifier.load` has accepted."""
        return cls(onnx.load(path))

    @property
    def logits(self) -> str | None:
        """The name of what the last softmax is given; None if the graph does not end in one."""
        last = self._maker[OUTPUT_NAME]
        return last.input[0] if last.op_type == "Softmax" else None

    def trace(self, pixels: Array, target: str = OUTPUT_NAME) -> Values:
        """Every value on the way from pixels, float32 [N, H, W, 3] in 0..255, to the target.

        Weights and other constants of the file are among them.
        """
        session, names = self._session(target)
        results = session.run(names, {INPUT_NAME: pixels.astype(np.float32)})
        return {
            **self._stored,
            INPUT_NAME: pixels.astype(np.float32),
            **dict(zip(names, results, strict=True)),
        }

    def gradient(self, values: Values, target: str, weights: Array) -> NDArray[np.float32]:
        """The derivative of sum(weights * target) by the pixels, float32 [N, H, W, 3].

        Args:
            values: what `trace` gave for this target, or for one behind it.
            target: a value's name.
            weights: of the target's shape.

        Raises:
            NoRule: an operator on the way that cannot be differentiated.
        """
        arriving: Values = {target: weights}
        for node in reversed(self._needed(target)):
            gradient = arriving.pop(node.output[0], None)
            if gradient is None:
                continue
            step = _step(node, values)
            for name, part in zip(node.input, backward(step, gradient), strict=False):
                if name in self._moving:
                    arriving[name] = arriving[name] + part if name in arriving else part
        return np.asarray(arriving.get(INPUT_NAME, np.zeros_like(values[INPUT_NAME])), np.float32)

    def takes(self, size: tuple[int, int], target: str) -> bool:
        """Whether the way to the target takes pictures of this size, as convolutions do."""
        try:
            self.trace(np.zeros((1, *size, 3), np.float32), target)
        except _RUN_ERRORS:
            return False
        return True

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Convolutions, pools and fully connected layers, from the pixels to the answer."""
        values = self.trace(np.zeros((1, *self.size, 3), np.float32))
        counts = {"convolution": 0, "pooling": 0, "fully connected": 0}
        found = []
        for node in self._needed(OUTPUT_NAME):
            kind = self._kind(node, values)
            if kind is not None:
                counts[kind] += 1
                found.append(self._layer(f"{kind} {counts[kind]}", node, values))
        return tuple(found)

    def first_filters(self) -> NDArray[np.float32] | None:
        """The first convolution's weights, [filters, 3, height, width]; None if not of colours."""
        for layer in self.layers:
            if layer.title == "convolution 1":
                values = self.trace(np.zeros((1, *self.size, 3), np.float32), layer.linear)
                weights = values[layer.weights]
                return weights if weights.ndim == 4 and weights.shape[1] == 3 else None
        return None

    def _kind(self, node: onnx.NodeProto, values: Values) -> str | None:
        if node.op_type == "Conv":
            return "convolution"
        if node.op_type in _POOLS or self._is_global_mean(node, values):
            return "pooling"
        product = node.op_type in ("MatMul", "Gemm") and node.input[1] not in self._moving
        return "fully connected" if product and node.input[0] in self._moving else None

    def _is_global_mean(self, node: onnx.NodeProto, values: Values) -> bool:
        """A mean or largest value over a whole map, as exporters write global pooling."""
        if node.op_type not in ("ReduceMean", "ReduceMax") or node.input[0] not in self._moving:
            return False
        return values[node.input[0]].ndim == 4 and values[node.output[0]].ndim <= 4

    def _layer(self, title: str, node: onnx.NodeProto, values: Values) -> Layer:
        weights = node.input[1] if len(node.input) > 1 and "pool" not in title else ""
        learned = sum(values[name].size for name in node.input[1:3] if weights and name)
        linear = answer = node.output[0]
        for follower in self._followers(answer):
            if weights and follower.op_type == "Add":
                learned += sum(values[x].size for x in follower.input if x not in self._moving)
            answer = follower.output[0]
        shape = tuple(values[answer].shape[1:])
        return Layer(title, answer, linear, weights, shape, learned)

    def _followers(self, name: str) -> Sequence[onnx.NodeProto]:
        """What is done to each value alone before anything else sees it, the softmax apart."""
        found: list[onnx.NodeProto] = []
        while True:
            users = [node for node in self._nodes if name in node.input]
            if len(users) != 1 or users[0].op_type not in _FOLLOWERS:
                return found
            if sum(x in self._moving for x in users[0].input) != 1:
                return found  # a sum with another branch
            found.append(users[0])
            name = users[0].output[0]

    def _reached_by_pixels(self) -> set[str]:
        moving = {INPUT_NAME}
        for node in self._nodes:
            if node.op_type not in _WITHOUT_GRADIENT and moving & set(node.input):
                moving.update(node.output)
        return moving

    def _needed(self, target: str) -> list[onnx.NodeProto]:
        """The nodes that the target depends on, in order."""
        wanted, found = {target}, []
        for node in reversed(self._nodes):
            if wanted & set(node.output):
                wanted.update(node.input)
                found.append(node)
        return found[::-1]

    @functools.lru_cache(maxsize=32)  # noqa: B019 - a network lives as long as the command
    def _session(self, target: str) -> tuple[ort.InferenceSession, tuple[str, ...]]:
        nodes, graph = self._needed(target), onnx.GraphProto(name="part")
        model = onnx.ModelProto(ir_version=self._model.ir_version, graph=graph)
        model.opset_import.extend(self._model.opset_import)
        model.graph.input.extend(self._model.graph.input)
        model.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        model.graph.initializer.extend(x for x in self._model.graph.initializer if x.name in used)
        names = tuple(name for node in nodes for name in node.output if name)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        # Nothing can be fused where every value is wanted.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = model.SerializeToString()
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]), names


def images_at_once(size: tuple[int, int]) -> int:
    """How many images of this size are traced together without taking much memory."""
    return max(1, min(32, 2**16 // math.prod(size)))


def _step(node: onnx.NodeProto, values: Values) -> Step:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    inputs = tuple(values[name] if name else None for name in node.input)
    return Step(node.op_type, attributes, inputs, values[node.output[0]])


def at(place: Sequence[int] | NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights that pick one channel of each image: 1 at [n, place[n], …], 0 elsewhere."""
    weights = np.zeros(shape, np.float32)
    weights[np.arange(shape[0]), np.asarray(place)] = 1
    return weights
