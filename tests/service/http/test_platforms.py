"""Routes for the clients of SageMaker, Hugging Face and Vertex AI, under both workers."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.images import encode, random_pixels
from tests.server import (
    WORKERS,
    Reply,
    Server,
    assert_problem,
    multipart,
    raw_request,
    start_server,
)

INVOCATIONS = "/invocations"
HUGGING_FACE = "/huggingface"
JSON = {"Content-Type": "application/json"}
KEY = {"X-API-Key": "key"}
RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
CUT = encode(Image.fromarray(random_pixels(64, 64, 3)), "PNG")[:-500]
TEXT = base64.b64encode(RED).decode()


def post_json(server: Server, path: str, content: Mapping[str, object]) -> Reply:
    return server.post(path, json.dumps(content).encode(), JSON)


@pytest.fixture
def predictions(server: Server) -> list[dict[str, Any]]:
    """What the service's own route says."""
    found: list[dict[str, Any]] = server.post("/predict", RED).json()["predictions"]
    return found


# ---- SageMaker -----------------------------------------------------------------------------------


def test_invocations_take_what_predict_takes(server: Server) -> None:
    """SageMaker's serializers send an image's bytes as application/x-image, or JSON."""
    expected = server.post("/predict", RED).json()
    for declared in ("application/x-image", "image/png", "application/octet-stream"):
        assert server.post(INVOCATIONS, RED, {"Content-Type": declared}).json() == expected
    assert server.post(INVOCATIONS, *multipart(("image", "a.png", RED))).json() == expected
    assert post_json(server, INVOCATIONS, {"image": TEXT}).json() == expected
    one = server.post(f"{INVOCATIONS}?top_k=1", RED).json()
    assert one["predictions"] == expected["predictions"][:1]


@pytest.mark.parametrize(
    ("asked", "answered"), [("instances", "predictions"), ("inputs", "outputs")]
)
def test_invocations_take_what_tensorflow_serving_takes(
    server: Server, asked: str, answered: str
) -> None:
    content = {asked: [{"b64": TEXT}] * 2}
    answer = post_json(server, INVOCATIONS, content).json()
    assert answer == post_json(server, "/v1/models/tiny:predict", content).json()
    assert len(answer[answered]) == 2


def test_invocations_have_the_limits_of_both_formats(server: Server) -> None:
    """A batch in JSON may be larger than one image in JSON; a raw image may not be larger."""
    rows = {"instances": [{"b64": base64.b64encode(RED + bytes(15_000_000)).decode()}] * 2}
    assert post_json(server, INVOCATIONS, rows).status == 200
    large = RED + bytes(20_000_001 - len(RED))
    assert_problem(server.post(INVOCATIONS, large), 413, "body-too-large")
    image = {"image": base64.b64encode(large).decode()}
    assert_problem(post_json(server, INVOCATIONS, image), 413, "body-too-large")


@pytest.mark.parametrize(
    ("body", "declared", "status", "slug"),
    [
        (b"", "image/png", 400, "missing-image"),
        (CUT, "application/x-image", 422, "broken-image"),
        (b"1,2,3", "text/csv", 415, "wrong-media-type"),
        (b"1,2,3", "application/x-image", 415, "unsupported-format"),
        (b"{", "application/json", 400, "bad-body"),
        (b"[" * 150_000, "application/json", 400, "bad-body"),
        (b'{"data": []}', "application/json", 400, "bad-body"),
        (b'{"instances": [5]}', "application/json", 400, "bad-tensor"),
        (b'{"instances": [], "inputs": []}', "application/json", 400, "bad-body"),
    ],
)
def test_invocations_refuse(
    server: Server, body: bytes, declared: str, status: int, slug: str
) -> None:
    reply = server.post(INVOCATIONS, body, {"Content-Type": declared})
    assert_problem(reply, status, slug)
    assert server.post(INVOCATIONS, RED).status == 200


# ---- Hugging Face --------------------------------------------------------------------------------


def test_hugging_faces_answer(server: Server, predictions: list[dict[str, Any]]) -> None:
    """As its client sends an image, without and with parameters."""
    expected = [{"label": one["label"], "score": one["probability"]} for one in predictions]
    for headers in ({}, {"Content-Type": "image/jpeg", "Accept": "image/png"}):
        assert server.post(HUGGING_FACE, RED, headers).json() == expected
    assert post_json(server, HUGGING_FACE, {"inputs": TEXT}).json() == expected
    for parameters in ({"top_k": 2}, {"top_k": 2, "function_to_apply": "softmax"}):
        reply = post_json(server, HUGGING_FACE, {"inputs": TEXT, "parameters": parameters})
        assert reply.json() == expected[:2]
    null = {"inputs": TEXT, "parameters": {"top_k": None, "function_to_apply": None}}
    assert post_json(server, HUGGING_FACE, null).json() == expected


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, "the JSON cannot be read"),
        (b"{}", 400, "inputs"),
        (b'{"inputs": 5}', 400, "inputs"),
        (b'{"inputs": "?"}', 400, "no base64 text"),
        (b'{"inputs": "https://example.org/cat.jpg"}', 400, "no base64 text"),
        (b'{"inputs": "aGVsbG8="}', 415, "text"),
        (b'{"inputs": "", "parameters": {"top_k": 0}}', 400, "top_k"),
        (b'{"inputs": "", "parameters": {"function_to_apply": "none"}}', 400, "softmax"),
        (b'{"inputs": "", "parameters": {"function_to_apply": "tanh"}}', 400, "tanh"),
        (b'{"inputs": ' + b"[" * 150_000, 400, "the JSON cannot be read"),
    ],
)
def test_hugging_faces_client_shows_the_error(
    server: Server, body: bytes, status: int, part: str
) -> None:
    """It reads a member ``error``."""
    reply = server.post(HUGGING_FACE, body, JSON)
    assert reply.status == status, reply.body
    assert list(reply.json()) == ["error"]
    assert part in reply.json()["error"]
    assert server.post(HUGGING_FACE, RED).status == 200


def test_a_broken_image_in_hugging_faces_shape(server: Server) -> None:
    reply = server.post(HUGGING_FACE, CUT, {"Content-Type": "image/jpeg"})
    assert reply.status == 422
    assert list(reply.json()) == ["error"]


# ---- Vertex AI -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=WORKERS)
def vertex(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    """Even the service's own route may be the platform's."""
    route = {"AIP_PREDICT_ROUTE": "/predict", "api_keys": "key"}
    with start_server(tiny_model, worker=request.param, **route) as running:
        yield running


def ask_vertex(vertex: Server, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Byte by byte: at this path, the description of the defaults knows other answers."""
    with vertex.wire() as wire:
        return wire.send(raw_request("/predict", body, headers={**JSON, **headers})).reply()


def test_vertex_gets_the_answers_of_tensorflow_serving(vertex: Server) -> None:
    body = json.dumps({"instances": [{"b64": TEXT}], "parameters": {}}).encode()
    answer = ask_vertex(vertex, body, KEY).json()
    assert answer == vertex.post("/v1/models/tiny:predict", body, KEY).json()
    assert list(answer) == ["predictions"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [(KEY, b"{}", 400), ({}, b"{}", 401), (KEY, b'{"instances": [{"b64": "aGVsbG8="}]}', 415)],
)
def test_vertex_gets_errors_as_one_member(
    vertex: Server, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    reply = ask_vertex(vertex, body, headers)
    assert reply.status == status
    assert list(reply.json()) == ["error"]
