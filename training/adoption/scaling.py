"""Whether a graph itself scales the pixels that it takes, and from which range."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort

from service.inference.classifier import CPU
from training.adoption.choices import Choice
from training.adoption.foreign import TYPES, ImageInput, quiet
from training.adoption.normalisation import PIXELS, UNIT, Normalisation

_LINEAR = ("Cast", "Mul", "Add", "Sub", "Div", "Identity", "Transpose")
# A pixel of 0..255 is brought to about 0..1 or -2..2; one of 0..1 is made up to ten times as large.
LARGEST_FOR_PIXELS, LARGEST_FOR_UNIT = 0.1, 10.0


def seen(model: onnx.ModelProto, image: ImageInput) -> Choice[Normalisation] | None:
    """What pixels the graph takes, where its first operators scale them; None where none does."""
    if image.type == onnx.TensorProto.UINT8:
        return Choice(PIXELS, "its input is uint8")
    end = _end_of_scaling(model.graph, image.name)
    if end is None:
        return None
    step = _step(model, image, end)
    if 0 < step <= LARGEST_FOR_PIXELS:
        return Choice(PIXELS, "the graph scales pixels itself")
    if 1 < step <= LARGEST_FOR_UNIT:
        return Choice(UNIT, "the graph normalises pixels of 0 to 1 itself")
    return None


def _end_of_scaling(graph: onnx.GraphProto, name: str) -> str | None:
    """What the last of the linear operators behind the input gives; None without a factor."""
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    is_scaled = False
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in _LINEAR:
            return name if is_scaled else None
        if any(other not in stored for other in users[0].input if other != name):
            return name if is_scaled else None
        is_scaled |= users[0].op_type in ("Mul", "Div")
        name = users[0].output[0]


def _step(model: onnx.ModelProto, image: ImageInput, end: str) -> float:
    """By how much the value at `end` grows where all pixels grow by 1."""
    part = onnx.ModelProto.FromString(model.SerializeToString())
    del part.graph.output[:], part.graph.value_info[:]
    part.graph.output.extend([onnx.helper.make_empty_tensor_value_info(end)])
    needed = {end}
    for node in reversed([*part.graph.node]):
        if needed & {*node.output}:
            needed |= {*node.input}
        else:
            part.graph.node.remove(node)
    kept = [tensor for tensor in part.graph.initializer if tensor.name in needed]
    del part.graph.initializer[:]
    part.graph.initializer.extend(kept)
    session = ort.InferenceSession(part.SerializeToString(), quiet(), providers=[CPU])
    side = image.size or (8, 8)
    channels = image.channels
    shape = (channels, *side) if image.layout == "nchw" else (*side, channels)
    images = [np.full((image.batch or 1, *shape), value, TYPES[image.type]) for value in (0, 1)]
    dark, bright = (session.run([end], {image.name: each})[0] for each in images)
    return float(np.mean(bright.astype(np.float64) - dark))
