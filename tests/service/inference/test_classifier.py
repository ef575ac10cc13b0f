"""Classifier: what a model file must be, and what it answers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from service.inference.classifier import Classifier, Selection
from service.inference.contract import Activation, Familiarity
from service.inference.errors import (
    CardError,
    ContractMismatch,
    ModelError,
    ModelNotFound,
    ModelUnreadable,
)
from tests.tiny_model import make_card, make_graph, write_model, write_with_familiarity


def test_probabilities_are_those_of_the_graph(tiny_classifier: Classifier) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, ..., 2] = 255
    images[1, ..., 1] = 128
    logits = images.mean(axis=(1, 2)) * 8 / 255
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = tiny_classifier.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_rank_orders_and_cuts(tiny_classifier: Classifier) -> None:
    row = np.array([0.2, 0.7, 0.1], np.float32)
    ranked = tiny_classifier.rank(row)
    assert [p.label for p in ranked] == ["green", "red", "blue"]
    assert ranked[0].probability == pytest.approx(0.7)
    assert [p.label for p in tiny_classifier.rank(row, Selection(1))] == ["green"]
    assert len(tiny_classifier.rank(row, Selection(99))) == 3


@pytest.mark.parametrize(
    ("top_k", "least", "labels"),
    [
        (None, 0.2, ["green", "red"]),
        (None, 0.25, ["green", "red"]),  # a probability that is just as large is enough
        (None, 0.26, ["green"]),
        (1, 0.2, ["green"]),
        (3, 0.2, ["green", "red"]),
        (None, 0.9, []),
        (2, 1.0, []),
    ],
)
def test_only_probable_labels(
    tiny_classifier: Classifier, top_k: int | None, least: float, labels: list[str]
) -> None:
    row = np.array([0.25, 0.625, 0.125], np.float32)
    ranked = tiny_classifier.rank(row, Selection(top_k, least))
    assert [p.label for p in ranked] == labels


def test_equal_probabilities_are_ranked_as_the_card_has_them(tiny_classifier: Classifier) -> None:
    row = np.array([0.25, 0.5, 0.25], np.float32)
    ranked = tiny_classifier.rank(row)
    first, second, third = tiny_classifier.card.labels
    assert [p.label for p in ranked] == [second, first, third]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 9, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_wrong_pixels_are_refused(tiny_classifier: Classifier, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        tiny_classifier.predict(images)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"nothing\.onnx"):
        Classifier.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09" * 100])
def test_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        Classifier.load(path)


def test_half_a_model(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(tiny_model.read_bytes()[: tiny_model.stat().st_size // 2])
    with pytest.raises(ModelError):
        Classifier.load(path)


def test_model_without_card(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no card"):
        Classifier.load(write_model(tmp_path / "m.onnx", None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.replace('"schema":1', '"schema":3'), "schema"),
        (lambda card: card.replace('"schema":1,', ""), "schema"),
        (lambda card: card.replace('"stretch"', '"squeeze"'), "resize"),
        (lambda card: card.replace('"name":"tiny"', '"name":"tiny","colour":1'), "colour"),
        (lambda card: card.replace('"blue"', '"red"'), "repeated"),
        (lambda card: card[:-1], "card"),
    ],
)
def test_card_that_is_not_as_it_must_be(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    text = change(make_card().to_json())
    assert text != make_card().to_json()
    with pytest.raises(CardError, match=message):
        Classifier.load(write_model(tmp_path / "m.onnx", text))


def test_labels_that_do_not_match_the_output(tmp_path: Path) -> None:
    card = make_card(labels=("a", "b", "c", "d"))
    with pytest.raises(ContractMismatch, match="4 labels"):
        Classifier.load(write_model(tmp_path / "m.onnx", card))


def test_input_size_that_does_not_match_the_graph(tmp_path: Path) -> None:
    with pytest.raises(ContractMismatch, match="image"):
        Classifier.load(write_model(tmp_path / "m.onnx", make_card(size=(8, 9))))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("least", [-0.5, 0.4])
def test_output_that_is_no_probability(
    tmp_path: Path, least: float, activation: Activation
) -> None:
    """Three numbers for a black image, which sum to 1 or more, and some lie outside of 0..1."""
    graph = make_graph()
    answer = np.array([least, 0.1, 1.4], np.float32)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(answer, "answer"))
    graph.graph.node[3].CopyFrom(
        onnx.helper.make_node("Add", ["logits", "answer"], ["probabilities"])
    )
    card = make_card(activation=activation)
    with pytest.raises(ContractMismatch, match=r"black image with numbers from .* to 1.4"):
        Classifier.load(write_model(tmp_path / "m.onnx", card, graph))


def test_labels_that_stand_alone(tmp_path: Path) -> None:
    graph = make_graph(activation="sigmoid")
    card = make_card(activation="sigmoid")
    model = Classifier.load(write_model(tmp_path / "m.onnx", card, graph))
    image = np.full((1, 8, 8, 3), (255, 0, 51), np.uint8)
    expected = 1 / (1 + np.exp(-np.array([[8, 0, 1.6]])))
    np.testing.assert_allclose(model.predict(image), expected, atol=1e-6)
    assert [p.label for p in model.rank(model.predict(image)[0])] == ["red", "blue", "green"]


def test_a_sigmoid_that_the_card_does_not_say(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_card(), make_graph(activation="sigmoid"))
    with pytest.raises(ContractMismatch, match=r"sum to 1\.5, not 1.*activation"):
        Classifier.load(path)


def test_data_outside_of_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m.onnx", make_card())
    model = onnx.load(path)
    external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=0)
    onnx.save(model, path)
    assert (tmp_path / "w.bin").exists()
    monkeypatch.chdir(tmp_path)  # where a careless runtime would find it
    with pytest.raises(ModelUnreadable):
        Classifier.load(path)


def test_card_survives_the_round_trip() -> None:
    card = make_card()
    assert type(card).from_json(card.to_json()) == card


# ---- familiarity ---------------------------------------------------------------------------------

COLOURS = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (5, 2, 0))])


def test_familiarity_is_the_second_output(tmp_path: Path, tiny_classifier: Classifier) -> None:
    classifier = Classifier.load(write_with_familiarity(tmp_path / "m.onnx", 0.1))
    probabilities, familiarity = classifier.run(COLOURS)
    assert familiarity is not None
    assert familiarity == [1.0, 0.019608]  # without the rest that a float32 has
    np.testing.assert_array_equal(probabilities, tiny_classifier.predict(COLOURS))
    assert [classifier.is_unfamiliar(share) for share in familiarity] == [False, True]
    assert not classifier.is_unfamiliar(0.1)


def test_a_model_without_familiarity_says_nothing(tiny_classifier: Classifier) -> None:
    assert tiny_classifier.run(COLOURS).familiarity is None
    assert not tiny_classifier.is_unfamiliar(0.0)


@pytest.mark.parametrize("is_told", [False, True])
def test_a_familiarity_that_only_graph_or_card_has(tmp_path: Path, is_told: bool) -> None:
    card = make_card(familiarity=Familiarity(0.01, 100, None) if is_told else None)
    path = write_model(tmp_path / "m.onnx", card, make_graph(familiarity=not is_told))
    with pytest.raises(ContractMismatch, match=r"where the card promises image: .*probabilities"):
        Classifier.load(path)


@pytest.mark.parametrize(("divisor", "shape"), [(-255.0, [1]), (np.nan, [1]), (255.0, [1, 3])])
def test_familiarity_that_is_no_share(tmp_path: Path, divisor: float, shape: list[int]) -> None:
    """A number below 0, NaN, or one for each colour."""
    graph = make_graph(familiarity=True)
    divisors = np.array(divisor, np.float32)
    graph.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(divisors, "white"))
    one = onnx.numpy_helper.from_array(np.ones(3, np.float32), "one")
    graph.graph.initializer.append(one)
    graph.graph.node.insert(2, onnx.helper.make_node("Add", ["means", "one"], ["brighter"]))
    graph.graph.node[-2].input[0] = "brighter"  # black is no 0, which has no sign
    if shape == [1, 3]:
        graph.graph.node[-1].input[0] = "brighter"
        graph.graph.output[1].type.tensor_type.ClearField("shape")
    card = make_card(familiarity=Familiarity(0.01, 100, None))
    with pytest.raises(ContractMismatch, match="one number from 0 to 1 is promised"):
        Classifier.load(write_model(tmp_path / "m.onnx", card, graph))
