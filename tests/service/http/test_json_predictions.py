"""POST /predict with an image in JSON, under both workers."""

import base64
import json
from collections.abc import Callable

import pytest
from PIL import Image

from tests.images import encode
from tests.server import Server, assert_problem

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
LIMIT = 20_000_000


def as_json(data: bytes, **fields: object) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers with an image in JSON."""
    content = {"image": base64.b64encode(data).decode()} | fields
    return json.dumps(content).encode(), {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "text",
    [
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
        lambda data: base64.encodebytes(data).decode(),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
    ],
    ids=["plain", "url-safe", "lines", "data URL"],
)
def test_json_with_an_image(server: Server, text: Callable[[bytes], str]) -> None:
    """The same answer as for the bytes."""
    body, headers = as_json(b"", image=text(RED), top_k=1)
    answer = server.post("/predict", body, headers).json()
    assert answer == server.post("/predict?top_k=1", RED).json()
    assert len(answer["predictions"]) == 1


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "JSON cannot be read"),
        (b"[]", "image"),
        (b"{}", "image"),
        (b'{"image": 5}', "image"),
        (b'{"image": "not base64!"}', "no base64 text"),
        (b'{"image": "data:image/png,abc"}', "data URL"),
        (b'{"image": "", "top_k": 0}', "top_k"),
        (b'{"image": "", "top_k": 2.5}', "top_k"),
        (b'{"image": "", "top_k": "2"}', "top_k"),
        (b'{"image": "", "top_k": 1e300}', "top_k"),
        (b'{"image": "", "min_probability": 2}', "min_probability"),
        (b'{"image": "", "topk": 2}', "topk"),
        (b'{"image": ' + b"[" * 100_000, "JSON cannot be read"),
        (b'{"image": "\xff"}', "JSON cannot be read"),
    ],
)
def test_json_that_cannot_be_used(server: Server, body: bytes, part: str) -> None:
    reply = server.post("/predict", body, {"Content-Type": "application/json"})
    assert part in assert_problem(reply, 400, "bad-body")["detail"]
    assert server.post("/predict", RED).status == 200


def test_an_image_in_json_has_the_same_limit(server: Server) -> None:
    """Its bytes count, not their base64 text."""
    largest = RED + bytes(LIMIT - len(RED))
    assert server.post("/predict", *as_json(largest)).status == 200
    assert_problem(server.post("/predict", *as_json(largest + b"\0")), 413, "body-too-large")


def test_the_json_wins_over_the_query(server: Server) -> None:
    body, headers = as_json(RED, top_k=2)
    assert len(server.post("/predict?top_k=1", body, headers).json()["predictions"]) == 2
    body, headers = as_json(RED, min_probability=0.9)
    assert len(server.post("/predict?top_k=3", body, headers).json()["predictions"]) == 1


def test_a_whole_number_may_be_written_with_a_point(server: Server) -> None:
    body, headers = as_json(RED, top_k=2.0)
    assert len(server.post("/predict", body, headers).json()["predictions"]) == 2


def test_nearly_json_is_told_how_to_send_it(server: Server) -> None:
    for data in (base64.b64encode(RED), as_json(RED)[0]):
        detail = server.post("/predict", data).json()["detail"]
        assert 'JSON as application/json: {"image": "<base64>"}' in detail
