"""python -m service card: what a model file says of itself."""

from pathlib import Path

import msgspec
import pytest

from service.__main__ import main
from service.inference.classifier import Classifier
from service.inference.contract import Example
from tests.tiny_model import make_card, write_model


def test_card(
    tiny_model: Path, tiny_classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(tiny_model)]) == 0
    text = capsys.readouterr().out
    assert type(tiny_classifier.card).from_json(text) == tiny_classifier.card
    assert len(text.splitlines()) > 10


def test_without_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    card = msgspec.structs.replace(make_card(), schema=2, examples=(Example("red", image),))
    assert main(["card", str(write_model(tmp_path / "model.onnx", card))]) == 0
    text = capsys.readouterr().out
    assert type(card).from_json(text) == card.without_images()
    assert image not in text


def test_a_model_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing.onnx"
    assert main(["card", str(path)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert str(path) in errors
    assert len(errors.splitlines()) == 1
