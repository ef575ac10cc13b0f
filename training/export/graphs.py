"""ONNX graphs: what is changed in them between tf2onnx and the file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def number_names(graph: onnx.GraphProto) -> None:
    """Name nodes and what flows between them by kind and place: `Conv_4`, `weights_2`.

    TensorFlow's and tf2onnx' names count what else the process has done, so the same network would
    have another digest, and with it another version, after every export. The graph's inputs and
    outputs keep their names.
    """
    kept = {value.name for value in (*graph.input, *graph.output)}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = {"": "", **{name: name for name in kept}}  # "" is an input that a node goes without
    weights: list[onnx.TensorProto] = []
    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{place}"
        for name in node.input:
            if name not in names:
                names[name] = stored[name].name = f"weights_{len(weights)}"
                weights.append(stored[name])
        for i, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}:{i}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    ordered = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(ordered)


def store_inputs(graph: onnx.GraphProto, values: Mapping[str, NDArray[np.generic]]) -> None:
    """Make inputs of these names constants of the graph.

    tf2onnx takes a constant for an input where TensorFlow's function got it from outside, as it
    does from Keras' normalisation layers.
    """
    asked = [value for value in graph.input if value.name not in values]
    stored = [value.name for value in graph.input if value.name in values]
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in stored)
    del graph.input[:]
    graph.input.extend(asked)


def divide_logits(model: onnx.ModelProto, temperature: float) -> None:
    """Put a temperature between the logits and the softmax that the graph ends with."""
    graph, softmax = model.graph, model.graph.node[-1]
    if softmax.op_type != "Softmax":
        raise ValueError(f"the graph ends with {softmax.op_type}, not with a softmax")
    factor = numpy_helper.from_array(np.array(1 / temperature, np.float32), "inverse_temperature")
    graph.initializer.append(factor)
    scaled = helper.make_node("Mul", [softmax.input[0], factor.name], ["scaled_logits"], "scale")
    softmax.input[0] = "scaled_logits"
    graph.node.insert(len(graph.node) - 1, scaled)
