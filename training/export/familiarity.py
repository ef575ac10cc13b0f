"""How like the training images an image is: a second output, made for any exported graph.

What the last product of a network takes, its features, is compared with those of training images,
the bank: the mean cosine of the NEIGHBOURS most similar ones (Y. Sun, Y. Ming, X. Zhu, Y. Li,
Out-of-Distribution Detection with Deep Nearest Neighbors, 2022), times a small power of the
features' length, which is short where there is nothing that the network knows, as in noise. Where
that comes among the scores of held-back images is the familiarity. docs/experiments.md has what
was tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.inference.classifier import CPU
from service.inference.contract import FAMILIARITY_NAME, INPUT_NAME, OUTPUT_NAME, Familiarity
from training.data.dataset import Split
from training.data.pixels import Images, spread
from training.errors import FamiliarityError
from training.progress import bar, say

THRESHOLD = 0.01
# With fewer, one in a hundred is none of them.
LEAST_HELD_BACK = 100
MOST_HELD_BACK = 2000
STEPS = 1000  # of the share, at most: scores that the graph holds
ROWS, MOST_ROWS, ROWS_A_LABEL = 1000, 4000, 4
NEIGHBOURS = 5
# Features are compared in so many dimensions: those in which the bank's are longest.
DIRECTIONS = 32
MOST_DIRECTIONS, DIRECTIONS_A_LABEL = 64, 3
LENGTH_POWER = 0.1
BATCH = 100
LEAST_OPSET = 10  # TopK takes its number as an input
_REDUCE_BY_INPUT = 18  # the opset from which axes are an input
_PREFIX = "familiarity/"
_SCORE = f"{_PREFIX}score"
_PRODUCTS = ("MatMul", "Gemm", "Conv", "FusedMatMul", "FusedGemm", "FusedConv")


def tried(
    model: onnx.ModelProto, known: Split, held_back: Images
) -> tuple[onnx.ModelProto, Familiarity | None]:
    """The same as `with_familiarity`, or the model as it is; then the reason is said."""
    try:
        return with_familiarity(model, known, held_back)
    except FamiliarityError as error:
        say(f"no familiarity: {error}")
        return model, None


def with_familiarity(
    model: onnx.ModelProto, known: Split, held_back: Images
) -> tuple[onnx.ModelProto, Familiarity]:
    """A copy of the model that gives familiarity too, in place of any that it has.

    Args:
        model: of our contract, as it will be served: quantised and calibrated.
        known: training images and their labels.
        held_back: images like them that were not trained on, uint8 [N, H, W, 3].

    Returns:
        The model, and what its card says of it; false alarms are not measured yet.

    Raises:
        FamiliarityError: it cannot be made, and why.
    """
    if len(held_back) < LEAST_HELD_BACK:
        raise FamiliarityError(
            f"it is a share of held-back images: {len(held_back)} are there,"
            f" {LEAST_HELD_BACK} are the least"
        )
    model = without_familiarity(model)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise FamiliarityError(f"the graph's opset {opset} is too old, {LEAST_OPSET} is the least")
    nodes = _Nodes(model, opset)
    features = _add_features(nodes, known.images[:2])
    chosen = bank_of(known.targets)
    bank = _asked(model, features, known.images, chosen, "comparing with training images")
    _add_score(nodes, features, bank, len(np.unique(known.targets)))
    some = spread(len(held_back), MOST_HELD_BACK)
    scores = _asked(model, _SCORE, held_back, some, "looking at held-back images")
    _add_share(nodes, scores.reshape(-1))
    model.graph.output.append(
        helper.make_tensor_value_info(FAMILIARITY_NAME, TensorProto.FLOAT, [_batch(model)])
    )
    return model, Familiarity(THRESHOLD, len(some), None)


def without_familiarity(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model that gives probabilities alone."""
    copy: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    for field in (graph.node, graph.initializer):
        kept = [one for one in field if not one.name.startswith(_PREFIX)]
        del field[:]
        field.extend(kept)
    probabilities = [value for value in graph.output if value.name == OUTPUT_NAME]
    del graph.output[:]
    graph.output.extend(probabilities)
    return copy


def bank_of(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the images that are the bank, as many of each label where there are enough."""
    labels = np.unique(targets)
    most = min(MOST_ROWS, max(ROWS, ROWS_A_LABEL * len(labels)))
    places = [np.flatnonzero(targets == label) for label in labels]
    return np.concatenate([each[spread(len(each), max(1, most // len(labels)))] for each in places])


@dataclass(frozen=True)
class _Nodes:
    """Adds operators to a graph, all under one prefix, by which they are found again."""

    model: onnx.ModelProto
    opset: int

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operator; the name of its first output."""
        graph = self.model.graph
        name = name or f"{_PREFIX}{kind}_{len(graph.node)}"
        outputs = [name, f"{name}_places"] if kind == "TopK" else [name]
        label = f"{_PREFIX}node_{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, outputs, label, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; its name."""
        name = f"{_PREFIX}constant_{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def reduce(self, kind: str, of: str, axes: Sequence[int], *, keep: bool, name: str = "") -> str:
        """Add a mean or a length over axes."""
        if self.opset < _REDUCE_BY_INPUT:
            return self.add(kind, of, name=name, axes=[*axes], keepdims=int(keep))
        along = self.constant(np.array(axes, np.int64))
        return self.add(kind, of, along, name=name, keepdims=int(keep))


def last_products(graph: onnx.GraphProto) -> list[tuple[str, str]]:
    """(operator, the name of what it multiplies with weights) of each product nearest to the end.

    There are several where the answers of several networks are put together.
    """
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" or (node.input and constant.issuperset(node.input)):
            constant.update(node.output)
    wanted, found = {OUTPUT_NAME}, []
    for node in reversed(graph.node):
        if wanted.isdisjoint(node.output):
            continue
        given = [name for name in node.input if name and name not in constant]
        if node.op_type in _PRODUCTS and len(given) == 1:
            found.append((node.op_type, given[0]))
        else:
            wanted.update(given)
    return found


def _add_features(nodes: _Nodes, two: NDArray[np.uint8]) -> str:
    """Operators for the features, float32 [N, D]; their name."""
    products = last_products(nodes.model.graph)
    if not products:
        raise FamiliarityError("no product with weights is found before the graph's answer")
    flat = []
    for kind, name in products:
        found = next(_run(nodes.model, name, [two]))
        shape = found.shape
        if len(shape) < 2 or shape[0] != len(two):
            raise FamiliarityError(
                f"what the last product takes has the shape {list(shape)} for {len(two)} images,"
                " where a row for each is expected"
            )
        places = range(2, len(shape)) if "Conv" in kind else range(1, len(shape) - 1)
        is_float = found.dtype == np.float32
        taken = name if is_float else nodes.add("Cast", name, to=TensorProto.FLOAT)
        flat.append(nodes.reduce("ReduceMean", taken, places, keep=False) if places else taken)
    return flat[0] if len(flat) == 1 else nodes.add("Concat", *flat, axis=1)


def _add_score(nodes: _Nodes, features: str, bank: NDArray[np.float32], labels: int) -> None:
    """Operators from features to `_SCORE`, [N, 1]: the higher, the more familiar."""
    if not (np.isfinite(bank).all() and bank.any()):
        raise FamiliarityError("what the last product takes is NaN, infinite or always 0")
    rows = bank / np.maximum(np.linalg.norm(bank, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    wanted = min(MOST_DIRECTIONS, max(DIRECTIONS, DIRECTIONS_A_LABEL * labels))
    directions = np.linalg.svd(rows, full_matrices=False)[2][:wanted].T
    rows = rows @ directions
    # In 8 bits in the file, in floats in memory: a session makes constants of constants.
    small = np.rint(rows.T * (127 / np.abs(rows).max())).astype(np.int8)
    length = nodes.reduce("ReduceL2", features, [1], keep=True)
    power = nodes.constant(np.array(1 - LENGTH_POWER, np.float32))
    shown = nodes.add("MatMul", features, nodes.constant(np.ascontiguousarray(directions)))
    shown = nodes.add("Div", shown, nodes.add("Pow", length, power))
    known = nodes.add("Cast", nodes.constant(np.ascontiguousarray(small)), to=TensorProto.FLOAT)
    neighbours = max(1, min(NEIGHBOURS, NEIGHBOURS * len(rows) // ROWS, len(rows) // labels))
    number = nodes.constant(np.array([neighbours], np.int64))
    nearest = nodes.add("TopK", nodes.add("MatMul", shown, known), number)
    nodes.reduce("ReduceMean", nearest, [1], keep=True, name=_SCORE)


def _add_share(nodes: _Nodes, scores: NDArray[np.float32]) -> None:
    """Operators from `_SCORE` to the share of scores below it."""
    # Without any features the score is 0 / 0, and nothing is stranger: NaN is above no number.
    table = np.sort(np.where(np.isnan(scores), -np.inf, scores))
    if len(table) > STEPS:
        table = np.quantile(table, (np.arange(STEPS) + 0.5) / STEPS, method="nearest")
    below = nodes.add("Less", nodes.constant(table[None]), _SCORE)
    counted = nodes.add("Cast", below, to=TensorProto.FLOAT)
    nodes.reduce("ReduceMean", counted, [1], keep=False, name=FAMILIARITY_NAME)


def _asked(
    model: onnx.ModelProto,
    name: str,
    images: Images,
    places: NDArray[np.int64],
    title: str,
) -> NDArray[np.float32]:
    """What flows under a name in the graph, for the images at these places."""
    starts = bar(range(0, len(places), BATCH), desc=title, unit="batch")
    batches = (images[places[start : start + BATCH]] for start in starts)
    return np.concatenate([*_run(model, name, batches)])


def _run(
    model: onnx.ModelProto, name: str, batches: Iterable[NDArray[np.uint8]]
) -> Iterator[NDArray[np.float32]]:
    """What flows under a name in the graph, for each batch of images.

    Raises FamiliarityError where onnxruntime does.
    """
    looked_at = onnx.ModelProto.FromString(model.SerializeToString())
    del looked_at.graph.output[:]
    looked_at.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = ort.InferenceSession(looked_at.SerializeToString(), options, providers=[CPU])
        for batch in batches:
            yield session.run(None, {INPUT_NAME: batch})[0]
    except Exception as error:  # onnxruntime's exceptions share no other base
        (line, *_) = str(error).splitlines() or [type(error).__name__]
        raise FamiliarityError(
            f"onnxruntime does not run the graph as far as that: {line}"
        ) from error


def _batch(model: onnx.ModelProto) -> str:
    """What the graph calls the number of images."""
    return model.graph.input[0].type.tensor_type.shape.dim[0].dim_param or "batch"
