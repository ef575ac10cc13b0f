"""Networks small enough to know what they answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.tiny_model import make_card, write_model


def build(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    size: tuple[int, int] = (8, 8),
    outputs: int = 3,
    kind: int = TensorProto.UINT8,
) -> onnx.ModelProto:
    """A graph from `image` [N, *size, 3] to `probabilities` [N, outputs]."""
    shape: list[Any] = ["N", *size, 3]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def one_pixel(row: int, column: int) -> onnx.ModelProto:
    """Two labels: the second's log-odds are 0.05 times the red of one pixel, less 4."""
    weights = np.zeros((8 * 8 * 3, 2), np.float32)
    weights[(row * 8 + column) * 3, 1] = 0.05
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    return build(nodes, {"weights": weights, "bias": np.array([0, -4], np.float32)}, outputs=2)


def colour_filters(order: tuple[int, int, int] = (0, 1, 2)) -> onnx.ModelProto:
    """A convolution of 3 filters, 3x3, that see red, green and blue; RELU; the mean; softmax.

    `order`: of the channels that it is given.
    """
    filters = np.zeros((3, 3, 3, 3), np.float32)
    for colour in range(3):
        filters[colour, order.index(colour)] = 1 / 9 / 255
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["pixels", "order"], ["ordered"], axis=3),
        helper.make_node("Transpose", ["ordered"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "filters", "bias"], ["answers"]),
        helper.make_node("Relu", ["answers"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    bias = np.full(3, -0.1, np.float32)
    return build(nodes, {"filters": filters, "bias": bias, "order": np.array(order, np.int64)})


def write(path: Path, graph: onnx.ModelProto, labels: tuple[str, ...]) -> Path:
    """A file with a card for these labels, 8x8 pixels."""
    return write_model(path, make_card(labels=labels), graph)
