"""What every test may ask for: the tiny real model, and real photographs."""

from pathlib import Path

import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import DEFAULT_LIMITS
from tests.monitoring.tools import program
from tests.tiny_model import make_card, write_model


@pytest.fixture(autouse=True)
def pillow_as_in_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit is the process's and only grows: training in the same process allows more."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", DEFAULT_LIMITS.max_pixels)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx", make_card())


@pytest.fixture(scope="session")
def nginx() -> str:
    return program("nginx", "nginx", "replicas behind nginx")


@pytest.fixture(scope="session")
def tiny_classifier(tiny_model: Path) -> Classifier:
    return Classifier.load(tiny_model)
