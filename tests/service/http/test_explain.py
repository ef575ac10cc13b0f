"""POST /explain and KServe's :explain, under both workers."""

import base64
import io
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.http.app import create_app
from service.http.current import service_of
from service.inference.classifier import Classifier
from service.inference.explanation import importance
from service.serving.batcher import TURN_SECONDS
from service.serving.context import RequestContext
from service.settings import DEFAULT_MODEL, Settings
from tests.images import encode, photograph
from tests.server import (
    WORKERS,
    Reply,
    Server,
    Wire,
    assert_problem,
    eventually,
    multipart,
    raw_request,
    start_server,
)
from tests.service.server.in_process import serving

EXPLAIN, KSERVE = "/explain", "/v1/models/tiny:explain"
JSON = {"Content-Type": "application/json"}
# The model answers by the mean colour: red speaks for red, wherever it is.
PIXELS = np.zeros((8, 8, 3), np.uint8)
PIXELS[:, :4, 0] = PIXELS[:, 4:, 2] = 200
HALVES = encode(Image.fromarray(PIXELS), "PNG")
TEXT = base64.b64encode(HALVES).decode()


def values(explanation: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(explanation["importance"]["values"])


def kserve(server: Server, *images: str, query: str = "") -> Reply:
    body = json.dumps({"instances": [{"b64": one} for one in images]}).encode()
    return server.post(KSERVE + query, body)


# ---- what is answered ----------------------------------------------------------------------------


def test_the_map_of_a_label(server: Server, tiny_classifier: Classifier) -> None:
    predicted = server.post("/predict", HALVES).json()
    probabilities = {one["label"]: one["probability"] for one in predicted["predictions"]}
    for index, label in enumerate(("red", "green", "blue")):
        answer = server.post(f"{EXPLAIN}?label={label}&method=mask-regression", HALVES).json()
        found = values(answer)
        expected = importance(tiny_classifier.predict, PIXELS, index)
        assert {name: answer[name] for name in ("label", "method", "passes", "model")} == {
            "label": label,
            "method": "mask-regression",
            "passes": 201,
            "model": predicted["model"],
        }
        assert answer["probability"] == pytest.approx(probabilities[label], abs=1e-6)
        assert (answer["importance"]["height"], answer["importance"]["width"]) == found.shape
        assert found == pytest.approx(expected, abs=1e-6)
        if label != "green":
            left, right = found[:, :4].mean(), found[:, 4:].mean()
            assert (left > 0 > right) if label == "red" else (left < 0 < right)


@pytest.mark.parametrize("query", ["", "?label=&method="])
def test_without_a_label_the_most_probable_one(server: Server, query: str) -> None:
    mostly_blue = encode(Image.new("RGB", (9, 7), (20, 40, 190)), "PNG")
    answer = server.post(EXPLAIN + query, mostly_blue).json()
    assert answer["label"] == "blue"
    assert answer["probability"] > 0.5


def test_an_image_comes_as_in_predict(server: Server) -> None:
    expected = server.post(f"{EXPLAIN}?label=red", HALVES).json()
    form, headers = multipart(("image", "a.png", HALVES))
    assert server.post(f"{EXPLAIN}?label=red", form, headers).json() == expected
    body = json.dumps({"image": TEXT, "label": "red"}).encode()
    assert server.post(f"{EXPLAIN}?label=blue", body, JSON).json() == expected
    assert kserve(server, TEXT, query="?label=red").json() == {"explanations": [expected]}
    pixels = json.dumps({"instances": [PIXELS.tolist()]}).encode()
    versioned = "/v1/models/tiny/versions/1:explain?label=red"
    assert server.post(versioned, pixels).json() == {"explanations": [expected]}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/png"),
        ("application/json;q=0.5, image/png;q=0.9", "image/png"),
        ("*/*", "application/json"),
        ("application/json, image/png", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_json_or_a_picture(server: Server, accept: str, media_type: str) -> None:
    reply = server.post(f"{EXPLAIN}?label=red", HALVES, {"Accept": accept})
    assert reply.headers["Content-Type"] == media_type
    if media_type == "image/png":
        picture = np.asarray(Image.open(io.BytesIO(reply.body)).convert("RGB"), int)
        assert picture.shape == (320, 320, 3)
        redder = picture[..., 0] - picture[..., 2]
        assert redder[:, :120].mean() > 30  # orange, for
        assert redder[:, 200:].mean() < -30  # blue, against


def test_it_is_counted_and_logged(server: Server) -> None:
    def counted() -> list[float]:
        phase = "labelserve_phase_duration_seconds_count"
        return [
            server.metric("labelserve_requests_total", route=EXPLAIN, status="200"),
            server.metric(phase, phase="background"),
            server.metric(phase, phase="decode"),
            server.metric(phase, phase="inference"),
            server.metric("labelserve_predictions_total", label="red"),
        ]

    before = counted()
    headers = {"X-Request-ID": "explained"}
    assert server.post(f"{EXPLAIN}?label=red", HALVES, headers).status == 200
    after = counted()
    assert [now - then for then, now in zip(before, after, strict=True)] == [1, 1, 1, 0, 0]
    line = server.requests(request_id="explained")[-1]
    assert line["route"] == EXPLAIN
    assert 0 < line["background_ms"] <= line["ms"]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("label=Redd", "the model has no label 'Redd': did you mean 'red'?"),
        ("label=Blue", "the model has no label 'Blue': did you mean 'blue'?"),
        ("label=zebra", "the model has no label 'zebra': GET /model has them all"),
        ("label=bl%C3%A4u", "the model has no label 'bläu': did you mean 'blue'?"),
        ("method=lime", "there is no method 'lime': the only one is mask-regression"),
    ],
)
def test_what_there_is_not(server: Server, query: str, detail: str) -> None:
    problem = assert_problem(server.post(f"{EXPLAIN}?{query}", HALVES), 400, "bad-parameter")
    assert problem["detail"] == detail
    assert kserve(server, TEXT, query=f"?{query}").json() == {"error": detail}


def test_one_image_at_a_time(server: Server) -> None:
    form, headers = multipart(("a", "a.png", HALVES), ("b", "b.png", HALVES))
    assert_problem(server.post(EXPLAIN, form, headers), 400, "missing-image")
    two = kserve(server, TEXT, TEXT)
    assert (two.status, two.json()) == (
        400,
        {"error": "the request holds 2 images, send exactly one"},
    )
    assert server.post(KSERVE, b'{"instances": []}').status == 400
    assert server.post(KSERVE, b'{"inputs": []}').status == 400
    assert server.post("/v1/models/dogs:explain", b"{}").status == 404


def test_an_image_that_cannot_be_used(server: Server) -> None:
    assert_problem(server.post(EXPLAIN, b"hello"), 415, "unsupported-format")
    assert_problem(server.post(EXPLAIN, HALVES[:-30]), 422, "broken-image")
    assert_problem(server.post(EXPLAIN, b""), 400, "missing-image")
    assert_problem(server.post(EXPLAIN, b"[" * 1000, JSON), 400, "bad-body")


def test_a_model_that_is_too_slow_is_not_asked(tiny_classifier: Classifier) -> None:
    classifier = Classifier(tiny_classifier._session, tiny_classifier.card)
    classifier.seconds_per_image = 0.5
    classifier._session = None  # to ask it is an error
    client = create_app(Settings(), classifier).test_client()
    for path, body in ((EXPLAIN, HALVES), (KSERVE, f'{{"instances": [{{"b64": "{TEXT}"}}]}}')):
        answer = client.post(path, data=body)
        assert answer.status_code == 501
        assert "takes 100.5 s with this model" in answer.text
        assert "the 30 s that a request may take" in answer.text


def test_those_ahead_take_too_long(tiny_classifier: Classifier) -> None:
    """20 s each: one is made in time, a second would not be."""
    classifier = Classifier(tiny_classifier._session, tiny_classifier.card)
    classifier.seconds_per_image = 0.1
    app = create_app(Settings(), classifier)
    client, admission = app.test_client(), service_of(app).admission
    ahead = RequestContext("id", "POST", 0.0, float("inf"))
    admission.enter(ahead, background=True)
    answer = client.post(EXPLAIN, data=HALVES)
    assert answer.status_code == 429
    assert "(1 are ahead)" in answer.text
    admission.leave(ahead)
    assert client.post(EXPLAIN, data=HALVES).status_code == 200


def test_a_network_that_keeps_off_the_event_loop(
    tiny_model: Path, tiny_classifier: Classifier
) -> None:
    """Its inferences are made in a thread of its own."""
    threads = set()

    class Slow(Classifier):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            threads.add(threading.current_thread().name.partition("_")[0])
            return super().predict(images)

    classifier = Slow(tiny_classifier._session, tiny_classifier.card)
    classifier.seconds_per_image = 2 * TURN_SECONDS
    with serving(classifier, tiny_model) as port, Wire(port) as wire:
        answer = wire.send(raw_request(f"{EXPLAIN}?label=red", HALVES)).reply().json()
    assert answer["label"] == "red"
    assert threads == {"network"}


# ---- beside predictions --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=WORKERS)
def small(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of a real network with room for two requests, or one explanation."""
    with start_server(DEFAULT_MODEL, worker=request.param, max_in_flight=2) as running:
        yield running


def test_explanations_are_refused_first(small: Server) -> None:
    """With one of two places taken, a prediction is let in and an explanation is not."""
    image = encode(photograph(0, 32, 32), "PNG")
    with ThreadPoolExecutor(1) as clients:
        explaining = clients.submit(small.post, EXPLAIN, image)
        refusals, waited = [], []
        assert eventually(lambda: small.metric("labelserve_requests_in_flight") == 1)
        while not explaining.done():
            refusals.append(small.post(EXPLAIN, image))
            begun = time.monotonic()
            assert small.post("/predict", image).status == 200
            waited.append(time.monotonic() - begun)
        whole = explaining.result()
    assert whole.status == 200
    refused = [one for one in refusals if one.status == 429]
    assert len(refused) >= len(refusals) - 1  # the last may have come when there was room again
    problem = assert_problem(refused[0], 429, "overloaded")
    assert "predictions come first" in problem["detail"]
    assert len(waited) > 3
    assert statistics.median(waited) < 0.1
    assert not small.tracebacks


def test_an_explanation_ends_with_its_client(small: Server) -> None:
    """The worker that can tell stops between two turns: the next does not wait for the rest."""
    image = encode(photograph(0, 32, 32), "PNG")
    with small.wire() as wire:
        wire.send(raw_request(EXPLAIN, image))
        assert eventually(lambda: small.metric("labelserve_requests_in_flight") == 1)
    assert eventually(lambda: small.metric("labelserve_requests_in_flight") == 0)
    assert small.post(EXPLAIN, image).status == 200
    assert not small.tracebacks
