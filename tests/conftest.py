"""What every test may ask for: the tiny real model, a server, and its log where a test fails."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import DEFAULT_LIMITS
from tests.container.engine import Engine
from tests.monitoring.tools import program
from tests.server import WORKERS, Server, start_server
from tests.tiny_model import make_card, write_model

# Folders and modules whose tests mostly wait: for containers, for Prometheus, for servers to start
# and stop. `make test` runs them beside all others.
WAITING = {
    "container",
    "kubernetes",
    "monitoring",
    "test_replace",
    "test_models",
    "test_start_stop",
}


_NO_ENGINE = (
    "THE CONTAINER IS NOT TESTED: no Docker Engine answers `docker info`."
    " Install one (Debian: apt install docker.io) and run the tests again"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """For pytest-xdist's ``-n``: who gets what.

    One process has the tests that wait, one the other tests of the service, which measure times;
    the modules that train go to those that are left, and in the end to all.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByWaiting(LoadScopeScheduling):  # type: ignore[misc]
        """Two groups, and one for each module of ``tests/training``."""

        def _split_scope(self, nodeid: str) -> str:
            path = PurePath(nodeid.partition("::")[0])
            if "training" in path.parts:
                return str(path)
            return "waiting" if WAITING & {*path.parts, path.stem} else "working"

    return ByWaiting(config, log)


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
def engine() -> Engine:
    """Docker's; without one, tests skip loudly, or fail if CONTAINER_TESTS=required."""
    found = Engine.find()
    if found is None:
        if os.environ.get("CONTAINER_TESTS") == "required":
            pytest.fail(_NO_ENGINE)
        pytest.skip(_NO_ENGINE)
    return found


@pytest.fixture(scope="session")
def tiny_classifier(tiny_model: Path) -> Classifier:
    return Classifier.load(tiny_model)


@pytest.fixture(scope="session", params=WORKERS)
def server(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    """A server with default limits, once under each worker. Tests leave it as they found it."""
    with start_server(tiny_model, worker=request.param) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        values: dict[str, Any] = getattr(item, "funcargs", {})
        for name, value in values.items():
            if isinstance(value, Server):
                report.sections.append((f"log of {name}", value.story))
    return report
