"""Faults of ours under the event loop: one request gets an opaque 500, the loop goes on.

The loop runs in a thread of this process, so that a real classifier can be broken.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.inference.classifier import Classifier
from service.settings import Settings
from service.transport.loop import Loop
from service.web.app import create_app
from service.web.scoreboard import Scoreboard, Seat
from service.web.service import service_of
from tests.images import encode
from tests.server import Reply, Wire, assert_problem, multipart, raw_request

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
LARGE = encode(Image.new("RGB", (900, 700), (200, 40, 90)), "PNG")


class Sometimes(Classifier):
    """A classifier whose runtime fails while ``broken``."""

    broken = False

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.broken:
            raise RuntimeError("secret of the runtime")
        return super().predict(images)


@contextmanager
def serving(classifier: Classifier, model: Path) -> Iterator[int]:
    """A loop with this classifier; its port."""
    board = Scoreboard(1)
    app = create_app(Settings(model=model, workers=1), classifier, Seat(board, 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        going = threading.Event()
        going.set()
        loop = Loop(app, service_of(app), [listener], 100)
        thread = threading.Thread(target=loop.run, args=(going.is_set, 5))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            going.clear()
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def classifier(tiny_classifier: Classifier) -> Sometimes:
    return Sometimes(tiny_classifier._session, tiny_classifier.card)


def batch() -> bytes:
    body, headers = multipart(("a", "a.png", RED))
    return raw_request("/predict/batch", body, headers={**headers, "X-Request-ID": "find-me"})


REQUESTS = {
    "small": raw_request("/predict", RED, headers={"X-Request-ID": "find-me"}),
    "large": raw_request("/predict", LARGE, headers={"X-Request-ID": "find-me"}),
    "many bytes": raw_request(
        "/predict", RED.ljust(100_000, b"\0"), headers={"X-Request-ID": "find-me"}
    ),
    "batch": batch(),
}


def assert_opaque(reply: Reply, caplog: pytest.LogCaptureFixture, secret: str) -> None:
    assert_problem(reply, 500, None)
    assert reply.headers["X-Request-ID"] == "find-me"
    for word in (b"secret", b"RuntimeError", b"MemoryError", b"Traceback", b".py"):
        assert word not in reply.body
    (record,) = [r for r in caplog.records if r.name == "labelserve"]
    assert record.exc_info
    assert secret in str(record.exc_info[1])
    assert record.__dict__["fields"]["request_id"] == "find-me"


@pytest.mark.parametrize("name", REQUESTS)
def test_the_runtime_fails(
    classifier: Sometimes, tiny_model: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with (
        caplog.at_level(logging.ERROR, "labelserve"),
        serving(classifier, tiny_model) as port,
        Wire(port) as wire,
    ):
        classifier.broken = True
        assert_opaque(wire.send(REQUESTS[name]).reply(), caplog, "secret of the runtime")
        classifier.broken = False
        assert wire.send(REQUESTS[name]).reply().status == 200


@pytest.mark.parametrize("name", REQUESTS)
def test_an_unforeseen_error_while_an_image_is_opened(
    classifier: Sometimes,
    tiny_model: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("secret")

    with (
        caplog.at_level(logging.ERROR, "labelserve"),
        serving(classifier, tiny_model) as port,
        Wire(port) as wire,
    ):
        with monkeypatch.context() as patched:
            patched.setattr("service.web.prediction.open_image", fail)
            assert_opaque(wire.send(REQUESTS[name]).reply(), caplog, "secret")
        assert wire.send(REQUESTS[name]).reply().status == 200


def test_many_faults_leave_their_places(
    classifier: Sometimes, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """More of them than may be in flight at the same time, pipelined."""
    with caplog.at_level(logging.CRITICAL, "labelserve"), serving(classifier, tiny_model) as port:
        classifier.broken = True
        with Wire(port) as wire:
            wire.send(REQUESTS["small"] * 300)
            assert {wire.reply().status for _ in range(300)} == {500}
        classifier.broken = False
        with Wire(port) as wire:
            assert wire.send(REQUESTS["small"]).reply().status == 200
