"""One image for all of these tests, built as the README builds it, and containers that go away.

They need a Docker Engine and skip loudly without one; with CONTAINER_TESTS=required, which .ci/run
sets, they fail instead. ``-p`` (a published port) is not tried here: builds and containers use
``--network host``, because an engine without a bridge network has nothing else.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.inference.classifier import Classifier
from tests.container.engine import Container, Engine
from tests.tiny_model import make_card, write_model

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path("models/default.onnx")

Run = Callable[..., Container]


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build's folder: the checkout, or a copy with a tiny model where its model is missing."""
    if (ROOT / MODEL).exists():
        return ROOT
    folder = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("service", "requirements", "docker"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / MODEL).parent.mkdir()
    write_model(folder / MODEL, make_card())
    return folder


@pytest.fixture(scope="session")
def image(engine: Engine, context: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    iidfile = tmp_path_factory.mktemp("image") / "id"
    return engine.build(context, iidfile, "--tag", "labelserve-test")


@pytest.fixture(scope="session")
def classifier(context: Path) -> Classifier:
    """The model that is in the image, on this side."""
    return Classifier.load(context / MODEL)


@pytest.fixture(scope="session")
def service(engine: Engine, image: str) -> Iterator[Container]:
    """A hardened container that serves, for tests that do it no harm."""
    container = engine.run(image)
    try:
        container.wait_ready()
        yield container
    finally:
        container.remove()


@pytest.fixture
def run(engine: Engine, image: str) -> Iterator[Run]:
    """Start containers for one test: the arguments are those of ``Engine.run`` after the image."""
    started: list[Container] = []

    def start(*options: str, **more: Any) -> Container:
        container = engine.run(image, *options, **more)
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove()
