"""python -m service card: what a model file says of itself."""

from pathlib import Path

import pytest

from service.__main__ import main
from service.inference.classifier import Classifier


def test_card(
    tiny_model: Path, tiny_classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(tiny_model)]) == 0
    text = capsys.readouterr().out
    assert type(tiny_classifier.card).from_json(text) == tiny_classifier.card
    assert len(text.splitlines()) > 10


def test_a_model_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing.onnx"
    assert main(["card", str(path)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert str(path) in errors
    assert len(errors.splitlines()) == 1
