"""The one shape of every error: the table is complete, its tree is as drawn, and 500 is opaque."""

import inspect
import io
import json
import logging
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image

from service.http.app import create_app
from service.inference import errors as inference_errors
from service.inference.classifier import Classifier, Outputs
from service.inference.errors import ImageError, InferenceError, InvalidAnswer
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving import errors as serving_errors
from service.serving.errors import RequestError
from service.serving.problems import KINDS
from service.settings import Settings
from tests.images import encode
from tests.server import ROOT, Reply, assert_problem

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


def leaves(base: type[Exception]) -> set[type[Exception]]:
    below = base.__subclasses__()
    return {leaf for child in below for leaf in leaves(child)} if below else {base}


def drawn_tree(module: ModuleType) -> dict[str, str]:
    """Each name of the tree in a module's docstring, with the name that it hangs on."""
    parents: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (module.__doc__ or "").splitlines():
        stripped = line.lstrip("│├└─ ")
        name = stripped.split(" ")[0]
        depth = (len(line) - len(stripped)) // 4
        if depth == 0 and name in vars(module):
            above = {0: name}
        elif above and depth:
            parents[name] = above[depth - 1]
            above[depth] = name
    return parents


@pytest.mark.parametrize("module", [inference_errors, serving_errors])
def test_the_tree_is_as_it_is_drawn(module: ModuleType) -> None:
    real = {
        name: kind.__base__.__name__
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__base__ not in (Exception, object, None)
    }
    assert real
    assert drawn_tree(module) == real


def test_every_error_of_a_request_has_a_kind() -> None:
    assert leaves(RequestError) | leaves(ImageError) | {InvalidAnswer} == set(KINDS)
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS)
    for kind in KINDS.values():
        assert 400 <= kind.status < 600
        assert kind.title[0].isupper()
        assert kind.slug.isascii()


def test_every_domain_error_has_one_base() -> None:
    for module, base in ((inference_errors, InferenceError), (serving_errors, RequestError)):
        for kind in vars(module).values():
            if inspect.isclass(kind):
                assert issubclass(kind, base)


def test_every_kind_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for kind in KINDS.values():
        assert [r for r in rows if f"`{kind.slug}`" in r and str(kind.status) in r], kind


# ---- in this process -----------------------------------------------------------------------------


def ask(client: FlaskClient, path: str, headers: dict[str, str] | None = None) -> Reply:
    response = client.post(path, data=RED, headers=headers)
    return Reply(response.status_code, response.headers, response.data)


class Broken(Classifier):
    """A classifier that opened well, and whose runtime fails on every image."""

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        raise RuntimeError(f"secret of the runtime, {images.shape}")


@pytest.fixture
def broken(tiny_model: Path, tiny_classifier: Classifier) -> FlaskClient:
    classifier = Broken(tiny_classifier._session, tiny_classifier.card)
    return create_app(
        Settings(model=tiny_model), classifier, WorkerSlot(SharedState(1), 0)
    ).test_client()


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_an_unforeseen_error_is_500_and_says_nothing(
    broken: FlaskClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.ERROR, "labelserve"):
        if path == "/predict":
            reply = ask(broken, path, {"X-Request-ID": "find-me"})
        else:
            form = {"a": (io.BytesIO(RED), "a.png")}
            response = broken.post(path, data=form, headers={"X-Request-ID": "find-me"})
            reply = Reply(response.status_code, response.headers, response.data)
    assert_problem(reply, 500, None)
    for word in (b"secret", b"Runtime", b"Traceback", b".py"):
        assert word not in reply.body
    (record,) = [r for r in caplog.records if r.name == "labelserve"]
    assert record.exc_info
    assert "secret of the runtime" in str(record.exc_info[1])
    assert record.__dict__["fields"]["request_id"] == "find-me"


def test_a_fault_of_the_runtime_leaves_the_next_request_alone(
    tiny_model: Path,
    tiny_classifier: Classifier,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More faults than requests may be in flight: each of them has left."""
    settings = Settings(model=tiny_model, max_in_flight=2, decoders=1, workers=1)
    classifier = Broken(tiny_classifier._session, tiny_classifier.card)
    app = create_app(settings, classifier, WorkerSlot(SharedState(1), 0))
    client = app.test_client()
    with caplog.at_level(logging.CRITICAL, "labelserve"):
        statuses = [ask(client, "/predict").status for _ in range(5)]
    assert statuses == [500] * 5
    monkeypatch.setattr(classifier, "run", tiny_classifier.run)
    assert ask(client, "/predict").status == 200


@pytest.mark.parametrize(
    "raised", [MemoryError(), AssertionError("x"), KeyError("path"), OSError("x")]
)
def test_faults_while_decoding_that_are_not_the_images(
    tiny_model: Path,
    tiny_classifier: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
) -> None:
    """Outside of Pillow's own reading even an OSError is our fault, never the image's."""

    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("service.serving.pipeline.open_image", fail)
    app = create_app(Settings(model=tiny_model), tiny_classifier, WorkerSlot(SharedState(1), 0))
    assert_problem(ask(app.test_client(), "/predict"), 500, None)


def test_starting_and_draining(tiny_model: Path, tiny_classifier: Classifier) -> None:
    board = SharedState(2)
    app = create_app(Settings(model=tiny_model), tiny_classifier, WorkerSlot(board, 0))
    client = app.test_client()

    def get(path: str) -> Reply:
        response = client.get(path)
        return Reply(response.status_code, response.headers, response.data)

    assert_problem(get("/health/ready"), 503, "not-ready")  # the other worker is not there yet
    assert_problem(get("/health"), 503, "not-ready")
    assert get("/health/live").status == 200
    assert ask(client, "/predict").status == 200
    board.set_ready(1, ready=True)
    assert get("/health/ready").status == 200
    board.drain()
    assert_problem(get("/health/ready"), 503, "not-ready")
    assert_problem(ask(client, "/predict"), 503, "not-ready")
    assert get("/health/live").status == 200
    patient = Settings(model=tiny_model, drain_seconds=5)
    client = create_app(patient, tiny_classifier, WorkerSlot(board, 0)).test_client()
    assert ask(client, "/predict").status == 200
    assert_problem(get("/health/ready"), 503, "not-ready")


def test_deadline(tiny_model: Path, tiny_classifier: Classifier) -> None:
    settings = Settings(model=tiny_model, request_timeout=1e-6)
    client = create_app(settings, tiny_classifier, WorkerSlot(SharedState(1), 0)).test_client()
    assert_problem(ask(client, "/predict"), 504, "deadline-exceeded")


class Waiting(Classifier):
    """A classifier that answers when it is told to."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier._session, classifier.card)
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self.entered.release()
        assert self.go_on.wait(30)
        return super().run(images)


def test_overload(tiny_model: Path, tiny_classifier: Classifier) -> None:
    classifier = Waiting(tiny_classifier)
    settings = Settings(model=tiny_model, max_in_flight=1, workers=1)
    app = create_app(settings, classifier, WorkerSlot(SharedState(1), 0))
    answered: list[Reply] = []
    thread = threading.Thread(target=lambda: answered.append(ask(app.test_client(), "/predict")))
    thread.start()
    assert classifier.entered.acquire(timeout=30)
    assert_problem(ask(app.test_client(), "/predict"), 429, "overloaded")
    assert app.test_client().get("/health/ready").status_code == 200
    assert app.test_client().get("/model").status_code == 200
    classifier.go_on.set()
    thread.join()
    assert answered[0].status == 200
    assert ask(app.test_client(), "/predict").status == 200


def test_factory_is_the_seam(tiny_model: Path, tiny_classifier: Classifier) -> None:
    """Two applications in one process share nothing."""
    strict = create_app(
        Settings(model=tiny_model, max_image_bytes=10),
        tiny_classifier,
        WorkerSlot(SharedState(1), 0),
    )
    lax = create_app(Settings(model=tiny_model), tiny_classifier, WorkerSlot(SharedState(1), 0))
    assert_problem(ask(strict.test_client(), "/predict"), 413, "body-too-large")
    reply = ask(lax.test_client(), "/predict")
    assert json.loads(reply.body)["predictions"][0]["label"] == "red"
