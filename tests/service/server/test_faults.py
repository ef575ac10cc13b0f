"""Bugs of the service under the event loop: one request gets an opaque 500, the others go on."""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.inference.classifier import ALL, Classifier, Outputs, Prediction, Selection
from tests.images import encode
from tests.server import Reply, Wire, assert_problem, multipart, raw_request
from tests.service.server.in_process import serving

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
LARGE = encode(Image.new("RGB", (900, 700), (200, 40, 90)), "PNG")


class Sometimes(Classifier):
    """A classifier whose runtime fails while ``broken``."""

    broken = False

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        if self.broken:
            raise RuntimeError("secret of the runtime")
        return super().run(images)


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
            patched.setattr("service.serving.pipeline.open_image", fail)
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


def test_a_value_error_of_ours_is_no_malformed_request(
    classifier: Sometimes,
    tiny_model: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the parser and the answer: it is a 500, and the client is not told what it says."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("secret")

    with (
        caplog.at_level(logging.ERROR, "labelserve"),
        serving(classifier, tiny_model) as port,
        Wire(port) as other,
    ):
        for broken in ("auth.Auth.check", "admission.Admission.enter"):
            caplog.clear()
            with monkeypatch.context() as patched, Wire(port) as wire:
                patched.setattr(f"service.serving.{broken}", fail)
                assert_opaque(wire.send(REQUESTS["small"]).reply(), caplog, "secret")
                assert wire.ended()
            assert other.send(REQUESTS["small"]).reply().status == 200


def test_one_answer_that_cannot_be_encoded_spoils_no_other(
    classifier: Sometimes, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two images of one batch: the one whose predictions cannot be ranked is a 500 alone."""
    rank = classifier.rank

    def fail_for_two(
        probabilities: NDArray[np.float32], selection: Selection = ALL
    ) -> list[Prediction]:
        if selection.top_k == 2:
            raise RuntimeError("secret")
        return rank(probabilities, selection)

    classifier.rank = fail_for_two  # type: ignore[method-assign]
    with (
        caplog.at_level(logging.CRITICAL, "labelserve"),
        serving(classifier, tiny_model) as port,
        ExitStack() as stack,
    ):
        wires = [stack.enter_context(Wire(port)) for _ in range(8)]
        for _ in range(20):
            for number, wire in enumerate(wires):
                wire.send(raw_request(f"/predict?top_k={number % 2 + 1}", RED))
            assert [wire.reply().status for wire in wires] == [200, 500] * 4
