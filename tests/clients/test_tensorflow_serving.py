"""Clients of TensorFlow Serving's REST API: KServe's version 1, and OpenVINO's."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.conftest import Ask, assert_same
from tests.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

Rows = NDArray[np.float64]


def test_kserve(
    default_server: Server, ask: Ask, expected: Rows, black: Rows, labels: Sequence[str]
) -> None:
    answers = ask("kserve_v1.py", default_server)
    assert [answers[what] for what in ("live", "model ready")] == [True, True]
    assert_same(answers["files"], expected)
    assert_same(answers["black"], black)
    assert answers["labels"] == [labels[i] for i in expected.argmax(axis=1)]
    (explained,) = answers["explained"]["explanations"]
    assert explained["label"] == labels[expected[0].argmax()]
    assert np.shape(explained["importance"]["values"]) == (32, 32)
    assert "b64" in answers["not an image"]
    assert "400 Bad Request" in answers["not an image"]


def test_openvino(default_server: Server, ask: Ask, expected: Rows, black: Rows) -> None:
    answers = ask("openvino.py", default_server)
    assert answers["status"] == {"1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert answers["metadata"] == {
        "model_version": 1,
        "inputs": {"image": {"dtype": "DT_UINT8", "shape": [-1, 32, 32, 3]}},
        "outputs": {"probabilities": {"dtype": "DT_FLOAT", "shape": [-1, 10]}},
    }
    assert_same(answers["files"], expected)
    assert_same(answers["black"], black)
