"""The twin in floats answers as the model in integers does."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from service.inference.classifier import Classifier
from service.settings import DEFAULT_MODEL
from tests.benchmarks.precisions import in_floats, main
from tests.tiny_model import make_graph


def test_the_twin_answers_alike_and_has_no_integers() -> None:
    model = onnx.load(DEFAULT_MODEL)

    twin = in_floats(model)

    assert not any("quantize" in node.op_type.lower() for node in twin.graph.node)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    answers, others = (
        Classifier.open(each.SerializeToString(), DEFAULT_MODEL).predict(images)
        for each in (model, twin)
    )
    assert np.abs(others - answers).mean() < 0.03  # 0.2 without the rectifiers
    assert np.ptp(answers, axis=0).max() > 0.2  # answers that are all alike agree with anything


def test_a_model_without_integers_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing in integers"):
        in_floats(make_graph())


def test_the_command_says_which_is_faster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "times as fast" in capsys.readouterr().out
    assert main([str(Path("no-such-file.onnx"))]) == 1
