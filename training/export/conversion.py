"""A TensorFlow function → an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from training.export.graphs import store_inputs
from training.progress import only_errors

OPSET = 18


def to_onnx(function: Any, signature: tf.TensorSpec) -> onnx.ModelProto:
    """The graph of a `tf.function` of one tensor, under the names that it has in TensorFlow.

    Raises what tf2onnx does for an operator that it does not know.
    """
    model: onnx.ModelProto
    with only_errors("tf2onnx"):  # it tells with a traceback of an optimisation that it leaves out
        model, _ = tf2onnx.convert.from_function(
            function,
            input_signature=[signature],
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    constants = {
        inside.name: outside.numpy()
        for outside, inside in function.get_concrete_function(signature).graph.captures
        if outside.dtype != tf.resource  # variables are constants already
    }
    store_inputs(model.graph, constants)
    return model


def _erfc(context: Any, node: Any, _name: str, _arguments: Any) -> None:
    """1 - erf, of which Keras' gelu is made; tf2onnx does not know it."""
    (given,), (shape,), (kind,) = node.input, node.output_shapes, node.output_dtypes
    (result,) = node.output
    one = context.make_const(f"{node.name}_one", np.ones(1, np.float32))
    context.remove_node(node.name)
    erf = context.make_node("Erf", [given], shapes=[shape], dtypes=[kind])
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=[result], shapes=[shape], dtypes=[kind]
    )
