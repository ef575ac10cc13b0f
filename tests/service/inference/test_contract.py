"""The card: what it may say, and that it is written as it was read."""

from pathlib import Path

import msgspec
import pytest

from service.inference.contract import (
    NOTHING_MEASURED,
    Example,
    Familiarity,
    InputSpec,
    ModelCard,
    ReliabilityBin,
    StrangerFigures,
    centre_share,
)
from service.inference.errors import CardError
from tests.tiny_model import make_card

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("rule", "share"),
    [
        ("stretch", None),
        ("crop", 1.0),
        ("crop-0.875", 0.875),
        ("crop-0.9", 0.9),
        ("crop-0.95", 0.95),
        ("crop-0.0001", 0.0001),
    ],
)
def test_what_a_resize_rule_keeps(rule: str, share: float | None) -> None:
    assert centre_share(rule) == share
    card = make_card(resize=rule)
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "fit",
        "crop-",
        "crop-1",
        "crop-0.0",
        "crop-0.12345",
        "crop-.875",
        "crop-0.5 ",
        "crop-0.\u0665",
    ],
)
def test_a_rule_that_is_none_is_named(rule: str) -> None:
    text = make_card().to_json().replace('"stretch"', msgspec.json.encode(rule).decode())
    with pytest.raises(CardError, match=r"input\.resize: '.*' is not stretch, crop, or crop with"):
        ModelCard.from_json(text)


def test_the_rule_of_a_card_without_one() -> None:
    text = make_card().to_json()
    assert text.count(',"resize":"stretch"') == 1
    assert ModelCard.from_json(text.replace(',"resize":"stretch"', "")).input == InputSpec(8, 8)


def test_a_softmax_need_not_be_said() -> None:
    text = make_card().to_json()
    assert "activation" not in text
    assert ModelCard.from_json(text).activation == "softmax"
    said = text.replace('"temperature"', '"activation":"softmax","temperature"')
    assert ModelCard.from_json(said).to_json() == text


def test_a_sigmoid_is_said() -> None:
    card = make_card(activation="sigmoid")
    assert '"activation":"sigmoid"' in card.to_json()
    assert ModelCard.from_json(card.to_json()) == card
    with pytest.raises(CardError, match="activation"):
        ModelCard.from_json(card.to_json().replace('"sigmoid"', '"tanh"'))


def test_a_card_may_claim_nothing() -> None:
    text = make_card().to_json()
    said = '"accuracy":null,"calibration_error":null,"parity":null'
    assert said in text
    assert ModelCard.from_json(text).figures == NOTHING_MEASURED
    with pytest.raises(CardError, match="accuracy"):  # it is said, not left out
        ModelCard.from_json(text.replace('"accuracy":null,', ""))


def test_what_a_model_was_adopted_from() -> None:
    card = make_card()
    assert "adopted_from" not in card.to_json()
    provenance = msgspec.structs.replace(card.provenance, adopted_from="m.onnx, SHA-256 ab, keras")
    adopted = msgspec.structs.replace(card, provenance=provenance)
    assert '"adopted_from":"m.onnx, SHA-256 ab, keras"' in adopted.to_json()
    assert ModelCard.from_json(adopted.to_json()) == adopted


def test_a_card_with_familiarity_is_of_schema_2() -> None:
    told = Familiarity(0.01, 2000, 0.011, {"noise": StrangerFigures(500, 0.99, 0.01)})
    card = make_card(familiarity=told)
    text = card.to_json()
    assert '"schema":2' in text
    assert '"familiarity":{"threshold":0.01,"held_back":2000,"false_alarms":0.011,' in text
    assert ModelCard.from_json(text) == card
    with pytest.raises(CardError, match=r"familiarity, examples and .* are of schema 2"):
        ModelCard.from_json(text.replace('"schema":2', '"schema":1'))


def test_a_card_with_a_curve_is_of_schema_2() -> None:
    curve = (ReliabilityBin(0.4, 0.6, 0.62, 100), ReliabilityBin(0.9, 0.98, 0.97, 100))
    figures = msgspec.structs.replace(NOTHING_MEASURED, reliability=curve)
    card = msgspec.structs.replace(make_card(), schema=2, figures=figures)
    text = card.to_json()
    assert '"reliability":[{"lowest":0.4,"mean":0.6,"right":0.62,"images":100},' in text
    assert ModelCard.from_json(text) == card
    assert "reliability" not in make_card().to_json()
    with pytest.raises(CardError, match=r"familiarity, examples and .* are of schema 2"):
        ModelCard.from_json(text.replace('"schema":2', '"schema":1'))


def test_a_card_with_examples_is_of_schema_2_and_shown_without_their_images() -> None:
    shown = Example("red", "data:image/png;base64,iVBORw0KGgo="), Example("blue")
    card = msgspec.structs.replace(make_card(), schema=2, examples=shown)
    text = card.to_json()
    assert '"examples":[{"label":"red","image":"data:image/png;base64,' in text
    assert ModelCard.from_json(text) == card
    without = card.without_images()
    assert '"examples":[{"label":"red"},{"label":"blue"}]' in without.to_json()
    assert msgspec.structs.replace(without, examples=shown) == card
    assert make_card().without_images() == make_card()
    with pytest.raises(CardError, match=r"familiarity, examples and .* are of schema 2"):
        ModelCard.from_json(text.replace('"schema":2', '"schema":1'))


@pytest.mark.parametrize(
    ("label", "image", "message"),
    [
        ("red", "iVBORw0KGgo=", "no data URL of a PNG or JPEG"),
        ("red", "data:image/svg+xml;base64,PHN2Zz4=", "no data URL of a PNG or JPEG"),
        ("red", "https://example.org/cat.png", "no data URL of a PNG or JPEG"),
        ("pink", "data:image/png;base64,iVBORw0KGgo=", "a label that the model does not have"),
        ("red", f"data:image/jpeg;base64,{'A' * 40_000}", "more than 40000 characters"),
    ],
)
def test_an_example_that_is_none(label: str, image: str, message: str) -> None:
    text = make_card().to_json().replace('"schema":1', '"schema":2')
    said = msgspec.json.encode([{"label": label, "image": image}]).decode()
    with pytest.raises(CardError, match=message):
        ModelCard.from_json(text.replace('"provenance"', f'"examples":{said},"provenance"'))


def test_a_threshold_that_is_no_share() -> None:
    text = make_card(familiarity=Familiarity(0.5, 100, None)).to_json()
    assert "strangers" not in text
    with pytest.raises(CardError, match=r"familiarity\.threshold: 1\.5 is not 0 to 1"):
        ModelCard.from_json(text.replace('"threshold":0.5', '"threshold":1.5'))


def test_the_default_models_card_is_written_as_it_was_read() -> None:
    """Made before cards had fields that may be absent."""
    text = msgspec.json.encode(msgspec.json.decode((ROOT / "models/default.json").read_bytes()))
    assert ModelCard.from_json(text).to_json().encode() == text
