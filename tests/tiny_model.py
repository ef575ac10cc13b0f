"""A real ONNX model small enough to build in a test: it tells images by their mean colour."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.contract import (
    METADATA_KEY,
    NOTHING_MEASURED,
    Activation,
    Familiarity,
    InputSpec,
    ModelCard,
    Provenance,
    ResizeRule,
    TrainingData,
)

LABELS = ("red", "green", "blue")


def make_card(
    labels: tuple[str, ...] = LABELS,
    size: tuple[int, int] = (8, 8),
    resize: ResizeRule = "stretch",
    version: str = "test-1",
    activation: Activation = "softmax",
    *,
    familiarity: Familiarity | None = None,
) -> ModelCard:
    return ModelCard(
        schema=1 if familiarity is None else 2,
        name="tiny",
        version=version,
        labels=labels,
        input=InputSpec(height=size[0], width=size[1], resize=resize),
        activation=activation,
        temperature=1.0,
        training_data=TrainingData(name="none", licence="none", images={}),
        figures=NOTHING_MEASURED,
        familiarity=familiarity,
        provenance=Provenance(
            created=time.strftime("%FT%TZ", time.gmtime()), command="", config={}, libraries={}
        ),
    )


def make_graph(
    outputs: int = 3,
    size: tuple[int, int] = (8, 8),
    sharpness: float = 8.0,
    activation: Activation = "softmax",
    *,
    familiarity: bool = False,
) -> onnx.ModelProto:
    """activation(sharpness x mean colour / 255): the more red, the more probably ``red``.

    ``familiarity``: with that output too, the mean of the strongest colour / 255: black is unlike
    anything.
    """
    weights = np.zeros((3, outputs), np.float32)
    weights[np.arange(3), np.arange(3) % outputs] = sharpness / 255
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"])
        if activation == "sigmoid"
        else helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    shape: list[Any] = ["N", *size, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    if familiarity:
        graph.node.extend(
            [
                helper.make_node("ReduceMax", ["means"], ["strongest"], axes=[1], keepdims=0),
                helper.make_node("Div", ["strongest", "white"], ["familiarity"]),
            ]
        )
        graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "white"))
        graph.output.append(helper.make_tensor_value_info("familiarity", TensorProto.FLOAT, ["N"]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)


def write_model(
    path: Path, card: ModelCard | str | None, graph: onnx.ModelProto | None = None
) -> Path:
    """Write a model with a card (or any text in its place, or none)."""
    model = graph if graph is not None else make_graph()
    if card is not None:
        text = card if isinstance(card, str) else card.to_json()
        helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, path)
    return path


def write_with_familiarity(path: Path, threshold: float = 0.1, version: str = "test-1") -> Path:
    """Write a model that gives familiarity; below the threshold an image is unfamiliar."""
    card = make_card(version=version, familiarity=Familiarity(threshold, 1000, 0.1))
    return write_model(path, card, make_graph(familiarity=True))
