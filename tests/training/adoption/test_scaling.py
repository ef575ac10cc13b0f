"""Pixels that the graph scales itself are seen, and nothing has to be told."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.training.adoption.networks import (
    NAMES,
    Network,
    adopt,
    agree,
    asked,
    node,
    pictures,
    softmax,
)
from training.cli import main


def constant(name: str, *values: float) -> onnx.TensorProto:
    shape = (3, 1, 1) if len(values) == 3 else ()
    return numpy_helper.from_array(np.array(values, np.float32).reshape(shape), name)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PARTS: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]] = {
    "1/255": ([node("Mul", "input", "a", "pixels")], [constant("a", 1 / 255)], "pixels"),
    "tf": (
        [node("Div", "input", "a", "x"), node("Sub", "x", "b", "pixels")],
        [constant("a", 127.5), constant("b", 1)],
        "pixels",
    ),
    "mean and deviation of 0 to 255": (
        [node("Sub", "input", "a", "x"), node("Div", "x", "b", "pixels")],
        [constant("a", *(255 * x for x in MEAN)), constant("b", *(255 * x for x in STD))],
        "pixels",
    ),
    "mean and deviation of 0 to 1": (
        [node("Sub", "input", "a", "x"), node("Div", "x", "b", "pixels")],
        [constant("a", *MEAN), constant("b", *STD)],
        "unit",
    ),
    "2 x - 1": (
        [node("Mul", "a", "input", "x"), node("Sub", "x", "b", "pixels")],
        [constant("a", 2), constant("b", 1)],
        "unit",
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_scaling_in_the_graph(tmp_path: Path, part: str) -> None:
    start, constants, name = PARTS[part]
    model = Network(start=start, constants=constants).save(tmp_path)
    classifier = adopt(model, *NAMES)
    assert classifier.card.provenance.config["pixels"].startswith(name)
    seen = pictures() / (255 if name == "unit" else 1)
    seen = seen.transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, pictures(), softmax(asked(model, seen)))


UNCLEAR = {
    "nothing": ([], []),
    "an offset alone": ([node("Sub", "input", "a", "pixels")], [constant("a", 0.5)]),
    "a factor that means nothing": ([node("Mul", "input", "a", "pixels")], [constant("a", 255)]),
}


@pytest.mark.parametrize("part", UNCLEAR)
def test_what_is_not_clear_is_asked_for(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start, constants = UNCLEAR[part]
    model = Network(start=start, constants=constants).save(tmp_path)
    assert main(["adopt", str(model), *NAMES, "--output", str(tmp_path / "o.onnx")]) == 2
    assert "--preprocess: nothing tells" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()
