"""A second output for any graph: what it tells, and what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.inference.classifier import Classifier
from service.inference.contract import FAMILIARITY_NAME, OUTPUT_NAME
from tests.tiny_model import make_card
from tests.training.export.test_graphs import converted
from training.data.dataset import Split
from training.errors import FamiliarityError
from training.export import cards, familiarity
from training.export.familiarity import (
    bank_of,
    last_products,
    tried,
    with_familiarity,
    without_familiarity,
)
from training.export.quantisation import quantised


@dataclass(frozen=True)
class Known(Split):
    """A split in memory."""

    images: NDArray[np.uint8]


SIZE = 32
COLOURS = ((200, 50, 40), (40, 180, 60), (40, 60, 200))


def coloured(count: int, seed: int, size: int = SIZE) -> Known:
    """Images of three labels, each a colour with a gradient and a little noise."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    across = np.linspace(-40, 40, size)[:, None, None] * rng.normal(1, 0.2, (count, 1, 1, 1))
    noise = rng.normal(0, 8, (count, size, size, 3))
    pixels = np.array(COLOURS)[targets][:, None, None] + across + noise
    return Known(pixels.clip(0, 255).astype(np.uint8), targets)


def stripes(count: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Black and white, of all widths: of no label."""
    widths = 1 + np.arange(count) % 5
    rows = (np.arange(size) // widths[:, None]) % 2 * 255
    return np.broadcast_to(rows[:, :, None, None], (count, size, size, 3)).astype(np.uint8)


def asked(
    model: onnx.ModelProto, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities and familiarity."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT_NAME, FAMILIARITY_NAME], {"image": images})
    return found[0], found[1]


KNOWN, HELD_BACK = coloured(300, 1), coloured(200, 2)


@pytest.mark.parametrize(
    ("name", "in_integers"),
    [("basic", False), ("small", False), ("deep", False), ("deep", True)],
    ids=["basic", "small", "deep", "deep in integers"],
)
def test_every_architecture(name: str, in_integers: bool) -> None:
    plain = converted(name)
    if in_integers:
        plain = quantised(plain, KNOWN.images)
    model, told = with_familiarity(plain, KNOWN, HELD_BACK.images)

    others, strangers = coloured(150, 3).images, stripes(50)
    probabilities, of_others = asked(model, others)
    _, of_strangers = asked(model, strangers)

    assert told.held_back == 200
    assert of_others.shape == (150,)
    assert 0.35 < of_others.mean() < 0.65  # of images alike every share is as frequent
    assert (of_others < told.threshold).mean() < 0.07
    assert of_strangers.mean() < 0.3  # the networks have learned nothing
    before = ort.InferenceSession(plain.SerializeToString()).run(None, {"image": others})[0]
    np.testing.assert_array_equal(probabilities, before)
    alone = np.concatenate([asked(model, others[i : i + 1])[1] for i in range(20)])
    np.testing.assert_allclose(alone, of_others[:20], atol=0.011)  # two of 200: rounding


def graph_of(
    nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], opset: int = 13
) -> onnx.ModelProto:
    """Of images of 8x8; `pixels` are floats, [N, 3, 8, 8]."""
    rng = np.random.default_rng(0)
    start = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["pixels"], perm=[0, 3, 1, 2]),
    ]
    stored = [
        numpy_helper.from_array(rng.normal(0, 0.1, shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(
        [*start, *nodes],
        "some",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", 3])],
        stored,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def by_convolution(opset: int = 13) -> onnx.ModelProto:
    """Its last product is a convolution, and a mean follows, as in SqueezeNet."""
    nodes = [
        helper.make_node("Conv", ["pixels", "filters"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("Conv", ["active", "head"], ["places"]),
        helper.make_node("GlobalAveragePool", ["places"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME]),
    ]
    return graph_of(nodes, {"filters": (16, 3, 3, 3), "head": (3, 16, 1, 1)}, opset)


def two_networks() -> onnx.ModelProto:
    """Their logits are added; behind the weights of one is a product of weights alone."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "widen"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("Transpose", ["turned"], ["second"]),
        helper.make_node("MatMul", ["active", "first"], ["one"]),
        helper.make_node("Gemm", ["wide", "second"], ["other"]),
        helper.make_node("Add", ["one", "other"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME]),
    ]
    return graph_of(nodes, {"widen": (3, 16), "first": (16, 3), "turned": (3, 16)})


@pytest.mark.parametrize("opset", [10, 13])
def test_a_network_that_ends_with_a_convolution(opset: int) -> None:
    model = by_convolution(opset)
    assert last_products(model.graph) == [("Conv", "active")]
    model, _ = with_familiarity(model, coloured(300, 1, 8), coloured(200, 2, 8).images)
    assert asked(model, stripes(20, 8))[1].max() < 0.05
    assert asked(model, coloured(100, 3, 8).images)[1].mean() > 0.35


def test_networks_that_answer_together() -> None:
    model = two_networks()
    assert last_products(model.graph) == [("Gemm", "wide"), ("MatMul", "active")]
    model, _ = with_familiarity(model, coloured(300, 1, 8), coloured(200, 2, 8).images)
    assert asked(model, coloured(100, 3, 8).images)[1].mean() > 0.35


def test_made_again_it_takes_the_place_of_the_first() -> None:
    plain, known, held_back = by_convolution(), coloured(300, 1, 8), coloured(200, 2, 8).images
    once, _ = with_familiarity(plain, known, held_back)
    twice, _ = with_familiarity(once, known, held_back)
    assert twice.SerializeToString() == once.SerializeToString()
    assert without_familiarity(once) == plain


def test_a_share_is_of_all_held_back_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than the graph has steps: still as many are below as above."""
    monkeypatch.setattr(familiarity, "STEPS", 50)
    held_back = coloured(200, 2, 8).images
    model, _ = with_familiarity(by_convolution(), coloured(300, 1, 8), held_back)
    shares = np.sort(asked(model, held_back)[1])
    assert len(set(shares.tolist())) == 51
    np.testing.assert_allclose(shares, (np.arange(200) + 0.5) / 200, atol=0.016)


def test_nothing_is_stranger_than_an_image_without_features() -> None:
    black = np.zeros((20, 8, 8, 3), np.uint8)
    held_back = np.concatenate([black, coloured(180, 2, 8).images])
    model, _ = with_familiarity(by_convolution(), coloured(300, 1, 8), held_back)
    shares = asked(model, held_back)[1]
    assert shares[:20].max() == 0
    assert shares[20:].min() == pytest.approx(0.1)
    assert shares.max() == pytest.approx(0.995)


def test_the_bank_has_as_many_of_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.array([0] * 500 + [1] * 40 + [2] * 500)
    monkeypatch.setattr(familiarity, "ROWS", 300)
    chosen = bank_of(targets)
    assert np.bincount(targets[chosen]).tolist() == [100, 40, 100]
    assert len(set(chosen.tolist())) == len(chosen)


def test_the_service_opens_it(tmp_path: Path) -> None:
    known, held_back = coloured(300, 1, 8), coloured(200, 2, 8)
    model, told = with_familiarity(by_convolution(), known, held_back.images)
    cards.save(model, make_card(familiarity=told), tmp_path / "m.onnx")
    found = Classifier.load(tmp_path / "m.onnx").run(known.images)
    assert found.familiarity is not None
    assert len(found.familiarity) == 300


def test_too_few_images_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    few, plain = coloured(99, 2, 8).images, by_convolution()
    model, told = tried(plain, coloured(300, 1, 8), few)
    assert told is None
    assert model is plain
    assert "no familiarity: it is a share of held-back images: 99 are" in capsys.readouterr().err


def without_products() -> onnx.ModelProto:
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME]),
    ]
    return graph_of(nodes, {})


def of_all_images_together() -> onnx.ModelProto:
    """What the product takes is no row for each image."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["turned"]),
        helper.make_node("MatMul", ["head", "turned"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME]),
    ]
    return graph_of(nodes, {"head": (3, 3)})


def without_numbers() -> onnx.ModelProto:
    model = by_convolution()
    broken = np.full((16, 3, 3, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "filters"))
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (without_products(), "no product with weights"),
        (of_all_images_together(), r"the shape \[3, 2\] for 2 images"),
        (without_numbers(), "NaN"),
        (by_convolution(opset=9), "opset 9 is too old"),
    ],
    ids=["products", "rows", "numbers", "opset"],
)
def test_why_it_cannot_be_made(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(FamiliarityError, match=reason):
        with_familiarity(model, coloured(120, 1, 8), coloured(120, 2, 8).images)
