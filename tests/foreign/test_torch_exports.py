"""Exports of PyTorch's, made here and now, answer as PyTorch does. `make test-foreign` runs these.

PyTorch is too large for the project's own environment: it has one in the user's cache, set up once.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from tests.environments import python_with
from training.cli import main

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(1200)]

PACKAGES = ("torch==2.13.0", "onnx", "onnxscript", "numpy")
SCRIPT = Path(__file__).with_name("torch_exports.py")
LABELS = ",".join("abcdefghij")
# What float16 keeps of a number, and what others do.
HALF, USUAL = 2e-3, 1e-4


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of exports, with what PyTorch answers beside each."""
    folder = tmp_path_factory.mktemp("exports")
    command = [str(python_with(*PACKAGES, by="pip")), str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "name",
    [
        "free_batch",
        "fixed_batch",
        "written_batch",
        "free_size",
        "softmax",
        "sigmoid",
        "half",
        "transformer",
        "dynamo",
        "dynamo_free_batch",
        "dynamo_transformer",
    ],
)
def test_it_answers_as_pytorch_does(exports: Path, tmp_path: Path, name: str) -> None:
    served = tmp_path / "served.onnx"
    words = ["--labels", LABELS, "--preprocess", "imagenet", "--output", str(served)]
    size = ["--size", "64"] if name == "free_size" else []
    assert main(["adopt", str(exports / f"{name}.onnx"), *words, *size]) == 0
    images = np.load(exports / "images.npy")
    answers = np.load(exports / f"{name}.npy").astype(np.float64)
    expected = answers if name in ("softmax", "sigmoid") else softmax(answers)
    assert len({tuple(row) for row in expected.round(3)}) == len(images)
    classifier = Classifier.load(served)
    assert classifier.card.activation == ("sigmoid" if name == "sigmoid" else "softmax")
    assert "written by pytorch 2.13.0" in classifier.card.provenance.adopted_from
    within = HALF if name == "half" else USUAL
    np.testing.assert_allclose(classifier.predict(images), expected, atol=within)
    np.testing.assert_allclose(classifier.predict(images[2:3]), expected[2:3], atol=within)
