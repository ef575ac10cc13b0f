"""What numbers a graph gives, and which of its outputs is the labels'."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.training.adoption.networks import (
    LABELS,
    NAMES,
    Floats,
    Network,
    adopt,
    agree,
    asked,
    imagenet,
    node,
    pictures,
    sigmoid,
    softmax,
)
from training.cli import main

PIXELS = ("--preprocess", "imagenet")


def refusal(model: Path, *words: str, capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    """What the command says when it refuses; nothing is written."""
    target = model.parent / "refused.onnx"
    before = sorted(model.parent.iterdir())
    assert main(["adopt", str(model), *words, "--output", str(target)]) == status
    assert sorted(model.parent.iterdir()) == before
    return capsys.readouterr().err.splitlines()[-1]


def scalar(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def eight_bits(before: str, after: str) -> list[onnx.NodeProto]:
    return [
        node("QuantizeLinear", before, "scale", "zero", "bytes"),
        node("DequantizeLinear", "bytes", "scale", "zero", after),
    ]


SCALE = [scalar("scale", 1 / 256), numpy_helper.from_array(np.array(0, np.uint8), "zero")]
ENDS = {
    "logits": ([], "softmax"),
    "softmax": ([node("Softmax", "logits", "out", axis=1)], "softmax"),
    "log-softmax": ([node("LogSoftmax", "logits", "out", axis=1)], "softmax"),
    "sigmoid": ([node("Sigmoid", "logits", "out")], "sigmoid"),
    "softmax and a reshape": (
        [node("Softmax", "logits", "p", axis=1), node("Unsqueeze", "p", "axes", "out")],
        "softmax",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_the_numbers_are(tmp_path: Path, end: str) -> None:
    nodes, activation = ENDS[end]
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    output = "out" if nodes else "logits"
    model = Network(end=nodes, outputs=[output, "logits"], constants=[axes]).save(tmp_path)
    images = pictures()
    classifier = adopt(model, *NAMES, *PIXELS)
    assert classifier.card.activation == activation
    logits = asked(model, imagenet(images))
    agree(classifier, images, sigmoid(logits) if activation == "sigmoid" else softmax(logits))


def test_a_softmax_kept_in_eight_bits(tmp_path: Path) -> None:
    """Of 300 labels most are rounded to 0: the sum is far from 1."""
    end = [node("Softmax", "logits", "p", axis=1), *eight_bits("p", "out")]
    network = Network(end=end, outputs=["out"], labels=300, constants=SCALE)
    model = network.save(tmp_path)
    images = pictures()
    found = asked(model, imagenet(images), "out")
    assert (found.sum(axis=1) < 0.97).any()
    classifier = adopt(model, "--labels", ",".join(f"thing {i}" for i in range(300)), *PIXELS)
    agree(classifier, images, found / found.sum(axis=1, keepdims=True))


TWO: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "logit": ([], "auto"),
    "probability": ([node("Sigmoid", "logits", "out")], "auto"),
    "logit with an option": ([], "sigmoid"),
    "flat": ([node("Sigmoid", "logits", "p"), node("Reshape", "p", "all", "out")], "auto"),
}


@pytest.mark.parametrize("way", TWO)
def test_one_number_tells_two_labels_apart(tmp_path: Path, way: str) -> None:
    end, option = TWO[way]
    every = numpy_helper.from_array(np.array([-1]), "all")
    outputs = ["out"] if end else ["logits"]
    model = Network(end=end, outputs=outputs, labels=1, constants=[every], sharpness=0.7).save(
        tmp_path
    )
    images = pictures()
    found = asked(model, imagenet(images), outputs[0])
    second = found if end else sigmoid(found)
    classifier = adopt(model, "--labels", "cat,dog", *PIXELS, "--softmax", option)
    assert classifier.card.activation == "softmax"
    agree(classifier, images, np.concatenate([1 - second, second], axis=1))


def test_the_option_says_what_nothing_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sigmoid made of other operators."""
    end = [
        node("Neg", "logits", "less"),
        node("Exp", "less", "power"),
        node("Add", "power", "one", "sum"),
        node("Reciprocal", "sum", "out"),
    ]
    model = Network(end=end, outputs=["out"], constants=[scalar("one", 1)]).save(tmp_path)
    assert "--softmax: the numbers of out are 0 to 1" in refusal(
        model, *NAMES, *PIXELS, capsys=capsys
    )
    classifier = adopt(model, *NAMES, *PIXELS, "--softmax", "sigmoid")
    assert classifier.card.activation == "sigmoid"
    agree(classifier, pictures(), asked(model, imagenet(pictures()), "out"))


def test_logits_of_labels_that_stand_alone(tmp_path: Path) -> None:
    model = Network().save(tmp_path)
    classifier = adopt(model, *NAMES, *PIXELS, "--softmax", "sigmoid")
    agree(classifier, pictures(), sigmoid(asked(model, imagenet(pictures()))))


def test_softmax_no_is_refused_for_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Network().save(tmp_path)
    said = refusal(model, *NAMES, *PIXELS, "--softmax", "no", capsys=capsys)
    assert "no probabilities" in said


@pytest.mark.parametrize("option", ["yes", "sigmoid"])
def test_probabilities_get_no_second_softmax(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Network(end=ENDS["softmax"][0], outputs=["out"]).save(tmp_path)
    assert "already" in refusal(model, *NAMES, *PIXELS, "--softmax", option, capsys=capsys)


def many(*, features_first: bool) -> Network:
    """The labels' logits beside eight features."""
    end = [node("Identity", "flat", "features")]
    names = ["features", "logits"] if features_first else ["logits", "features"]
    return Network(end=end, outputs=names)


@pytest.mark.parametrize("features_first", [True, False])
def test_the_output_with_a_number_for_each_label(tmp_path: Path, features_first: bool) -> None:
    model = many(features_first=features_first).save(tmp_path)
    agree(adopt(model, *NAMES, *PIXELS), pictures(), softmax(asked(model, imagenet(pictures()))))


def test_an_auxiliary_head_comes_second(tmp_path: Path) -> None:
    """As Inception's and GoogLeNet's do."""
    end = [node("Neg", "logits", "auxiliary")]
    model = Network(end=end, outputs=["logits", "auxiliary"]).save(tmp_path)
    agree(adopt(model, *NAMES, *PIXELS), pictures(), softmax(asked(model, imagenet(pictures()))))


@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_labels_of_a_zip_map(tmp_path: Path, kind: str) -> None:
    """As Azure Custom Vision and scikit-learn write it: a label, and a map of probabilities."""
    key = "classlabels_strings" if kind == "texts" else "classlabels_int64s"
    names: dict[str, Any] = {key: [*LABELS] if kind == "texts" else [3, 5, 7, 9]}
    end = [
        node("Softmax", "logits", "p", axis=1),
        node("ZipMap", "p", "loss", domain="ai.onnx.ml", **names),
        node("ArgMax", "p", "classLabel", axis=1, keepdims=0),
    ]
    graph = Network(end=end, outputs=["p"]).model()
    values = onnx.helper.make_sequence_type_proto(
        onnx.helper.make_map_type_proto(
            TensorProto.STRING if kind == "texts" else TensorProto.INT64,
            onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, []),
        )
    )
    del graph.graph.output[:]
    graph.graph.output.extend(
        [
            onnx.helper.make_tensor_value_info("classLabel", TensorProto.INT64, ["N"]),
            onnx.helper.make_value_info("loss", values),
        ]
    )
    model = tmp_path / "foreign.onnx"
    onnx.save(graph, model)
    classifier = adopt(model, *PIXELS)
    assert classifier.card.labels == (LABELS if kind == "texts" else ("3", "5", "7", "9"))
    reference = tmp_path / "reference.onnx"
    onnx.save(Network(end=end[:1], outputs=["p"]).model(), reference)
    agree(classifier, pictures(), asked(reference, imagenet(pictures()), "p"))


SHAPES = {
    "a detector": ([1, 84, 8400], "no classifier"),
    "a segmenter": ([1, 4, 8, 8], "no classifier"),
    "a detector's boxes and scores": ([1, 4, 4], "boxes"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_no_classifier(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shape, said = SHAPES[kind]
    sizes = numpy_helper.from_array(np.array(shape), "sizes")
    corner = numpy_helper.from_array(np.array([1, 1]), "corner")
    end = [
        node("Slice", "logits", "none", "corner", "one"),
        node("Expand", "one", "sizes", "out"),
    ]
    none = numpy_helper.from_array(np.array([0, 0]), "none")
    outputs = ["out", "logits"] if "boxes" in kind else ["out"]
    model = Network([1, 3, 8, 8], end=end, outputs=outputs, constants=[sizes, corner, none]).save(
        tmp_path
    )
    assert said in refusal(model, *NAMES, *PIXELS, capsys=capsys, status=1)


def test_the_shape_of_the_answer_does_not_matter(tmp_path: Path) -> None:
    """[N, labels, 1, 1], as of a convolution in place of a product."""
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    end = [node("Unsqueeze", "logits", "axes", "out")]
    model = Network(end=end, outputs=["out"], constants=[axes]).save(tmp_path)
    found: Floats = asked(model, imagenet(pictures()), "out")
    agree(adopt(model, *NAMES, *PIXELS), pictures(), softmax(found))
