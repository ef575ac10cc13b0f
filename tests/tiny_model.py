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
) -> ModelCard:
    return ModelCard(
        schema=1,
        name="tiny",
        version=version,
        labels=labels,
        input=InputSpec(height=size[0], width=size[1], resize=resize),
        activation=activation,
        temperature=1.0,
        training_data=TrainingData(name="none", licence="none", images={}),
        figures=NOTHING_MEASURED,
        provenance=Provenance(
            created=time.strftime("%FT%TZ", time.gmtime()), command="", config={}, libraries={}
        ),
    )


def make_graph(
    outputs: int = 3,
    size: tuple[int, int] = (8, 8),
    sharpness: float = 8.0,
    activation: Activation = "softmax",
) -> onnx.ModelProto:
    """activation(sharpness x mean colour / 255): the more red, the more probably ``red``."""
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
