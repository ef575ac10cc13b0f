"""A foreign graph → one of our contract: uint8 [N, H, W, 3] in, probabilities [N, labels] out.

Layout, normalisation, number type and softmax are operators around the graph, which itself stays
what it was. Its names get a prefix, so that none is there twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from service.inference.classifier import CPU
from service.inference.contract import INPUT_NAME, OUTPUT_NAME
from training.adoption.foreign import ImageInput, first_line, quiet, reason
from training.adoption.heads import Head
from training.adoption.normalisation import GREY, Normalisation
from training.calibration import logits_of, softmax
from training.errors import AdoptionError
from training.export.familiarity import LEAST_OPSET

INNER = "network/"
# What older graphs than LEAST_OPSET are raised to. It suffices for the operators around them, too.
RAISED_OPSET = 17
LEAST_IR = 8
SOFT_RANGE = 4.0  # of logits, from a label's to another's
_BATCH = "batch"


class Nodes:
    """Operators one behind the other, and the constants that they use."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator; the name of what it gives."""
        self._count += 1
        name = f"{kind}_{self._count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that onnxruntime answers for, its weights no inputs, without notes.

    Raises AdoptionError where the opset is too old and cannot be raised.
    """
    copy: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    stored = {tensor.name for tensor in copy.graph.initializer}
    inputs = [value for value in copy.graph.input if value.name not in stored]
    opset = next((item.version for item in copy.opset_import if item.domain in ("", "ai.onnx")), 0)
    if 0 < opset < LEAST_OPSET:
        try:  # wants weights among the inputs, as they were then
            copy = version_converter.convert_version(copy, RAISED_OPSET)
        except RuntimeError as error:
            raise AdoptionError(
                f"the graph's opset {opset} is too old, and cannot be raised: {first_line(error)}"
            ) from error
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    copy.ir_version = max(copy.ir_version, LEAST_IR)
    _drop_notes(copy.graph.node)
    for function in copy.functions:
        _drop_notes(function.node)
    return copy


def _drop_notes(nodes: Iterable[onnx.NodeProto]) -> None:
    """Take out what exporters note at operators: stack traces with paths of their machine."""
    for node in nodes:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _drop_notes(graph.node)


def with_free_batch(
    model: onnx.ModelProto, image: ImageInput, size: tuple[int, int]
) -> list[onnx.ModelProto]:
    """The model for any number of images of this size, in the ways that may work.

    First as it is, but for the shapes that are said of it; then with reshapes to its own batch
    made reshapes to whatever the batch is. Which of them is right is seen by asking them.
    """
    free = onnx.ModelProto.FromString(model.SerializeToString())
    graph = free.graph
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    channels = image.channels
    shape = [channels, *size] if image.layout == "nchw" else [*size, channels]
    (kept,) = [value for value in graph.input if value.name == image.name]
    kept.CopyFrom(helper.make_tensor_value_info(image.name, image.type, [_BATCH, *shape]))
    return [free, _with_free_reshapes(free, image.batch or 1)]


def _with_free_reshapes(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Constants [batch, ...] that say a shape get a 0 in front: as many as there are."""
    changed: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = changed.graph
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [item.t for item in node.attribute if item.name == "value"]
            tensors |= dict(zip(node.output, values, strict=False))
    for name in shapes & tensors.keys():
        sizes = numpy_helper.to_array(tensors[name]).copy()
        if len(sizes) > 1 and sizes[0] == batch:
            sizes[0] = 0
            tensors[name].CopyFrom(numpy_helper.from_array(sizes, tensors[name].name))
    return changed


@dataclass(frozen=True)
class Adapter:
    """What goes around a foreign graph.

    `image` and `head`: its input and its output. `pixels`: what is done to them in front. `size`:
    (height, width) of the images. `one_by_one`: whether the graph takes one image at a time; then
    it is the body of a loop over those that come (ONNX's Scan).
    """

    image: ImageInput
    head: Head
    pixels: Normalisation
    size: tuple[int, int]
    one_by_one: bool = False

    def around(self, model: onnx.ModelProto, temperature: float = 1.0) -> onnx.ModelProto:
        """The whole graph, of a model that is `raised`.

        `temperature`: what logits are divided by; it does nothing to a sigmoid.
        """
        inner = compose.add_prefix(model, INNER)
        nodes = Nodes()
        single = "one_image" if self.one_by_one else INPUT_NAME
        start = _as_the_graph_takes_them(nodes, single, self)
        enter = helper.make_node("Identity", [start], [INNER + self.image.name], "enter")
        before, nodes.nodes = nodes.nodes, []
        answer = _probabilities(nodes, INNER + self.head.name, self.head, temperature)
        body = [*before, enter, *inner.graph.node, *nodes.nodes]
        weights = [*nodes.constants, *inner.graph.initializer]
        if self.one_by_one:
            body = [_loop(body, weights, single, answer, self)]
            weights = []
        else:
            body.append(helper.make_node("Identity", [answer], [OUTPUT_NAME], "leave"))
        taken: list[int | str | None] = [_BATCH, *self.size, 3]
        given: list[int | str | None] = [_BATCH, self.head.labels]
        graph = helper.make_graph(
            body,
            model.graph.name or "adopted",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, taken)],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, given)],
            weights,
            sparse_initializer=inner.graph.sparse_initializer,
        )
        whole: onnx.ModelProto = helper.make_model(
            graph,
            ir_version=model.ir_version,
            opset_imports=inner.opset_import,
            functions=inner.functions,
            producer_name="labelserve",
        )
        return whole


def _as_the_graph_takes_them(nodes: Nodes, name: str, adapter: Adapter) -> str:
    """From uint8 [N, H, W, 3], or one image without the N, to what the foreign input is."""
    image, pixels = adapter.image, adapter.pixels
    if adapter.one_by_one:
        name = nodes.add("Reshape", name, nodes.constant(np.array([1, *adapter.size, 3])))
    if pixels.is_bgr and image.channels == 3:
        name = nodes.add("Gather", name, nodes.constant(np.array([2, 1, 0])), axis=3)
    is_first = image.layout == "nchw"
    if is_first and image.channels == 3:
        name = nodes.add("Transpose", name, perm=[0, 3, 1, 2])  # of bytes, a quarter of the work
    if image.type == TensorProto.UINT8 and image.channels == 3:
        return name
    name = nodes.add("Cast", name, to=TensorProto.FLOAT)
    if image.channels == 1:
        name = nodes.add("MatMul", name, nodes.constant(np.array(GREY, np.float32)[:, None]))
        if is_first:
            name = nodes.add("Transpose", name, perm=[0, 3, 1, 2])
    name = _normalised(nodes, name, image, pixels)
    if image.type == TensorProto.UINT8:  # a cast cuts off what is behind the point
        name = nodes.add("Add", name, nodes.constant(np.array(0.5, np.float32)))
    if image.type != TensorProto.FLOAT:
        name = nodes.add("Cast", name, to=image.type)
    return name


def _normalised(nodes: Nodes, name: str, image: ImageInput, pixels: Normalisation) -> str:
    mean, deviation = pixels.for_channels(image.channels)
    shape = (-1, 1, 1) if image.layout == "nchw" else (-1,)
    if mean.any():
        name = nodes.add("Sub", name, nodes.constant(mean.reshape(shape)))
    if (deviation != 1).any():
        name = nodes.add("Div", name, nodes.constant(deviation.reshape(shape)))
    return name


def _probabilities(nodes: Nodes, name: str, head: Head, temperature: float) -> str:
    """From the head's numbers to float32 [N, labels], that sum to 1 unless it is a sigmoid's."""
    name = nodes.add("Cast", name, to=TensorProto.FLOAT)
    name = nodes.add("Reshape", name, nodes.constant(np.array([-1, head.count])))
    if head.count == 1:
        name = _of_two(nodes, name, head)
    if head.activation == "sigmoid":
        return nodes.add("Sigmoid", name) if head.numbers == "logits" else name
    if head.numbers == "probabilities":  # the sum of those that were kept in 8 bits is not quite 1
        tiny = nodes.constant(np.array(np.finfo(np.float32).tiny))
        name = nodes.add("Log", nodes.add("Max", name, tiny))
    if temperature != 1:
        name = nodes.add("Mul", name, nodes.constant(np.array(1 / temperature, np.float32)))
    return nodes.add("Softmax", name, axis=1)


def _of_two(nodes: Nodes, name: str, head: Head) -> str:
    """[N, 1] → [N, 2]: the number is the second label's."""
    if head.numbers == "logits":
        other = nodes.add("Mul", name, nodes.constant(np.zeros(1, np.float32)))
    else:
        other = nodes.add("Sub", nodes.constant(np.ones(1, np.float32)), name)
    return nodes.add("Concat", other, name, axis=1)


def _loop(
    body: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    single: str,
    answer: str,
    adapter: Adapter,
) -> onnx.NodeProto:
    """The body for each image of the batch.

    The weights are the body's own: onnxruntime fuses and orders only those that it finds there.
    """
    row = helper.make_node("Squeeze", [answer], ["row"], "row")
    inside = helper.make_graph(
        [*body, row],
        "each_image",
        [helper.make_tensor_value_info(single, TensorProto.UINT8, [*adapter.size, 3])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [adapter.head.labels])],
        weights,
    )
    return helper.make_node(
        "Scan", [INPUT_NAME], [OUTPUT_NAME], "images", num_scan_inputs=1, body=inside
    )


def expected(
    rows: NDArray[np.float32], head: Head, temperature: float = 1.0
) -> NDArray[np.float64]:
    """The same in numpy: probabilities [N, labels] of the head's numbers, [N, ...]."""
    if head.activation == "sigmoid":
        found = rows.reshape(len(rows), -1).astype(np.float64)
        return 1 / (1 + np.exp(-found)) if head.numbers == "logits" else found
    scaled = _logits(rows, head) / temperature
    return softmax(scaled).astype(np.float64)


def soft_temperature(rows: NDArray[np.float32], head: Head) -> float:
    """At which answers are not so sure that one cannot be told from another; 1 or above."""
    if head.activation == "sigmoid":
        return 1.0
    return max(1.0, float(np.ptp(_logits(rows, head), axis=1).max()) / SOFT_RANGE)


def _logits(rows: NDArray[np.float32], head: Head) -> NDArray[np.float64]:
    """[N, labels] of a softmax's numbers, [N, ...]."""
    found = rows.reshape(len(rows), -1).astype(np.float64)
    if head.count == 1:
        other = 0 * found if head.numbers == "logits" else 1 - found
        found = np.concatenate([other, found], axis=1)
    if head.numbers == "probabilities":
        return logits_of(found).astype(np.float64)
    return found


def ask(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the whole graph answers, float32 [N, labels]. Raises AdoptionError where it does not."""
    try:
        session = ort.InferenceSession(model.SerializeToString(), quiet(), providers=[CPU])
        (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: images})
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise AdoptionError(reason(error)) from error
    return np.asarray(found, np.float32)
