"""TensorFlow Serving's REST API and KServe's version 1, under both workers."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.http.app import create_app
from service.inference.classifier import Classifier
from service.runtime.shared_state import SharedState, WorkerSlot
from service.settings import Settings
from tests.images import encode, random_pixels
from tests.server import Reply, Server

MODEL = "/v1/models/tiny"
PREDICT = f"{MODEL}:predict"
CLASSIFY = f"{MODEL}:classify"
LABELS = ["red", "green", "blue"]
LIMIT = 64

PIXELS = random_pixels(3, 8, 8, 3)
PNGS = [encode(Image.fromarray(pixels), "PNG") for pixels in PIXELS]
RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def post(server: Server, path: str, content: object) -> Reply:
    return server.post(path, json.dumps(content).encode(), {"Content-Type": "application/json"})


def assert_error(reply: Reply, status: int, part: str) -> None:
    """The shape that these clients read, with nothing else in it."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    answer = reply.json()
    assert list(answer) == ["error"]
    assert part in answer["error"]
    assert len(answer["error"]) < 1000


@pytest.fixture(scope="module")
def client(tiny_model: Path, tiny_classifier: Classifier) -> FlaskClient:
    slot = WorkerSlot(SharedState(1), 0)
    return create_app(Settings(model=tiny_model), tiny_classifier, slot).test_client()


@pytest.fixture(scope="module")
def expected(tiny_classifier: Classifier) -> list[list[float]]:
    """What the model says of the pixels."""
    rows: list[list[float]] = tiny_classifier.predict(PIXELS).tolist()
    return rows


# ---- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        [b64(png) for png in PNGS],
        [{"image": b64(png)} for png in PNGS],
        PIXELS.tolist(),
        [{"image": pixels.tolist()} for pixels in PIXELS],
        [b64(PNGS[0]), {"image": PIXELS[1].tolist()}, {"image": b64(PNGS[2])}],
    ],
    ids=["b64", "named b64", "numbers", "named numbers", "mixed"],
)
def test_rows_and_columns(server: Server, images: list[Any], expected: list[list[float]]) -> None:
    rows = post(server, PREDICT, {"instances": images}).json()
    assert list(rows) == ["predictions"]
    assert np.allclose(rows["predictions"], expected, atol=1e-6)
    columns = post(server, PREDICT, {"inputs": images, "signature_name": "serving_default"}).json()
    assert columns == {"outputs": rows["predictions"]}


@pytest.mark.parametrize(
    ("inputs", "images"),
    [
        ({"image": [b64(PNGS[0]), b64(PNGS[1])]}, 2),
        ({"image": PIXELS.tolist()}, 3),
        ({"image": b64(PNGS[0])}, 1),
        (b64(PNGS[0]), 1),
    ],
    ids=["list of b64", "numbers", "one b64", "b64 alone"],
)
def test_columns_by_the_name_of_the_input(
    server: Server, inputs: object, images: int, expected: list[list[float]]
) -> None:
    answer = post(server, PREDICT, {"inputs": inputs}).json()
    assert np.allclose(answer["outputs"], expected[:images], atol=1e-6)


def test_an_image_of_any_size_and_text_of_any_type(server: Server) -> None:
    """As curl sends it: -d declares a form."""
    body = json.dumps({"instances": [b64(RED)], "parameters": {"confidence": 0.5}}).encode()
    for declared in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        reply = server.post(PREDICT, body, {"Content-Type": declared})
        (row,) = reply.json()["predictions"]
        predictions = server.post("/predict", RED).json()["predictions"]
        assert {one["label"]: one["probability"] for one in predictions} == dict(
            zip(LABELS, row, strict=True)
        )


def test_labels_in_place_of_probabilities(server: Server, expected: list[list[float]]) -> None:
    best = [LABELS[int(np.argmax(row))] for row in expected]
    content = {"instances": [b64(png) for png in PNGS], "signature_name": "labels"}
    assert post(server, PREDICT, content).json() == {"predictions": best}


def test_classify(server: Server, expected: list[list[float]]) -> None:
    examples = [{"image": b64(PNGS[0])}, b64(PNGS[1])]
    (first, second) = post(server, CLASSIFY, {"examples": examples, "context": {}}).json()[
        "results"
    ]
    for result, row in ((first, expected[0]), (second, expected[1])):
        assert [label for label, _ in result] == [LABELS[i] for i in np.argsort(row)[::-1]]
        assert np.allclose([score for _, score in result], sorted(row, reverse=True), atol=1e-6)


def test_as_many_images_as_allowed(server: Server) -> None:
    reply = post(server, PREDICT, {"instances": [b64(RED)] * LIMIT})
    assert len(reply.json()["predictions"]) == LIMIT
    for images in ([b64(RED)] * (LIMIT + 1), [PIXELS[0].tolist()] * (LIMIT + 1)):
        assert_error(post(server, PREDICT, {"instances": images}), 413, "images")


@pytest.mark.parametrize("path", [f"{MODEL}/versions/1", f"{MODEL}/versions/0"])
def test_versions(server: Server, path: str) -> None:
    """OVMS' client asks for version 0 where it wants any."""
    assert post(server, f"{path}:predict", {"instances": [b64(RED)]}).status == 200


# ---- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/models/other", "there is 'tiny'"),
        (f"{MODEL}/versions/2", "there is 1"),
        (f"{MODEL}/labels/stable", "no version 'stable': there is 1"),
    ],
)
def test_models_that_are_not_served(server: Server, path: str, part: str) -> None:
    """They are refused by every route, with what there is."""
    for verb in (":predict", ":classify"):
        assert_error(post(server, path + verb, {"instances": [b64(RED)]}), 404, part)
    for rest in ("", "/metadata"):
        assert_error(server.get(path + rest), 404, part)


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, '{"instances": [{"b64"'),
        (b"{", 400, "the JSON cannot be read"),
        (b"[]", 400, "the JSON cannot be read"),
        (b"{}", 400, "neither instances nor inputs"),
        (b'{"instances": [], "inputs": []}', 400, "both instances and inputs"),
        (b'{"instances": []}', 400, "holds no image"),
        (b'{"instances": null}', 400, "an image is"),
        (b'{"instances": "aGk="}', 400, "an image is"),
        (b'{"instances": ["aGk="]}', 400, '{"b64": "<base64>"}'),
        (b'{"instances": [{}]}', 400, "an image is"),
        (b'{"instances": [{"b64": 5}]}', 400, "b64"),
        (b'{"instances": [{"b64": "?"}]}', 400, "no base64 text"),
        (b'{"instances": [{"b64": ""}]}', 400, "no bytes"),
        (b'{"instances": [{"bytes": {"b64": ""}}]}', 400, "unknown field `bytes`"),
        (b'{"instances": [{"b64": "", "image": {"b64": ""}}]}', 400, "an image is"),
        (b'{"instances": [{"image": {"b65": ""}}]}', 400, "b65"),
        (b'{"instances": [{"image": "aGk="}]}', 400, "the JSON cannot be read"),
        (b'{"instances": [{"b64": "aGVsbG8="}]}', 415, "text"),
        (b'{"instances": [1, {"b64": ""}]}', 400, "numbers"),
        (b'{"instances": [[[[0, 0, 0]]]]}', 400, "[1, 8, 8, 3]"),
        (b'{"instances": [{"image": [[[0, 0, 0]]]}]}', 400, "image 1 of 1"),
        (b'{"instances": [{"b64": ""}], "signature_name": "tf"}', 400, "serving_default"),
        (b'{"instances": [{"b64": ""}], "signature_name": 5}', 400, "signature_name"),
        (b'{"inputs": {"picture": {"b64": ""}}}', 400, "unknown field `picture`"),
        (b'{"inputs": {"' + b"a" * 100_000 + b'": 5}}', 400, "unknown field"),
        (b'{"instances": [{"b64": "\xff"}]}', 400, "the JSON cannot be read"),
        (b'{"instances": ' + b"[" * 100_000, 400, "nested too deeply"),
        (RED, 400, "it is PNG"),
    ],
)
def test_predict_refuses(server: Server, body: bytes, status: int, part: str) -> None:
    assert_error(server.post(PREDICT, body), status, part)
    assert post(server, PREDICT, {"instances": [b64(RED)]}).status == 200


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'{"instances": [{"b64": ""}]}', "examples"),
        (b'{"examples": {}}', "an image is"),
        (b'{"examples": [{"x": [1.0]}]}', "unknown field `x`"),
        (b'{"examples": [{"b64": ""}], "signature_name": "labels"}', "serving_default"),
    ],
)
def test_classify_refuses(server: Server, body: bytes, part: str) -> None:
    assert_error(server.post(CLASSIFY, body), 400, part)


def test_regression_is_none_of_a_classifier(server: Server) -> None:
    reply = post(server, f"{MODEL}:regress", {"examples": [{"image": b64(RED)}]})
    assert_error(reply, 400, "ask for :predict")


def test_a_broken_image_fails_its_request_and_is_named(server: Server) -> None:
    """With its own status; alone it needs no number."""
    cut = encode(Image.fromarray(random_pixels(64, 64, 3)), "PNG")[:-500]
    images = [b64(RED), b64(cut), b64(RED)]
    assert_error(post(server, PREDICT, {"instances": images}), 422, "image 2 of 3: ")
    alone = post(server, PREDICT, {"instances": [b64(cut)]})
    assert_error(alone, 422, "")
    assert "image 1" not in alone.json()["error"]
    images = [b64(RED), {"b64": "?"}]
    assert_error(post(server, PREDICT, {"instances": images}), 400, "image 2 of 2: ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"instances": ' + b"[" * 150_000, 400),
        (b'{"instances": ' + b"[" * 150_000 + b"]" * 150_000 + b"}", 400),
        (b'{"instances": [{"image": ' + b"[" * 150_000 + b"]" * 150_000 + b"}]}", 400),
        (b'{"more": ' + b'{"a": ' * 150_000 + b"1" + b"}" * 150_000 + b"}", 413),
        (b'{"instances": [' + b'{"b64": ""},' * 2_000_000 + b'{"b64": ""}]}', 413),
        (b'{"instances": [' + b"[]," * 5_000_000 + b"[]]}", 413),
        (b'{"instances": [' + b"0," * 5_000_000 + b"0]}", 413),
        (b'{"inputs": [{"image": [' + b"0," * 5_000_000 + b"0]}]}", 400),
        (b'{"inputs": [{"b64": "' + b"aGk " * 5_000_000 + b'"}]}', 415),
    ],
    ids=[
        "open",
        "deep",
        "deep image",
        "deep objects",
        "objects",
        "lists",
        "numbers",
        "image",
        "words",
    ],
)
def test_hostile_json_is_refused_soon(server: Server, body: bytes, status: int) -> None:
    """And without much memory: not an object for each of its items."""
    post(server, PREDICT, {"instances": [b64(RED)]})
    server.forget_peak()
    before, begun = server.peak(), time.monotonic()
    assert_error(server.post(PREDICT, body), status, "")
    assert time.monotonic() - begun < 5
    assert server.peak() - before < 5 * len(body) + 20_000_000
    assert post(server, PREDICT, {"instances": [b64(RED)]}).status == 200


WORDS = st.sampled_from(["instances", "inputs", "examples", "b64", "image", "signature_name"])
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 255, 0.5, -1, "", "aGk=", b64(RED)["b64"], "labels", b64(RED)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(content=st.dictionaries(WORDS, VALUES, min_size=1, max_size=3))
def test_json_of_any_shape_is_answered_or_refused(client: FlaskClient, content: object) -> None:
    for path in (PREDICT, CLASSIFY, "/invocations", "/huggingface"):
        response = client.post(path, json=content)
        assert response.status_code in (200, 400, 413, 415, 422), response.data


def test_a_body_beyond_the_limit(server: Server) -> None:
    with server.wire() as wire:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: test\r\nContent-Length: 64000001\r\n\r\n"
        assert_error(wire.send(head.encode()).reply(), 413, "64000000")


# ---- models --------------------------------------------------------------------------------------


def test_which_models_there_are(server: Server) -> None:
    assert server.get("/v1/models").json() == {"models": ["tiny"]}


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1", f"{MODEL}/versions/0"])
def test_a_models_status_is_that_of_both(server: Server, path: str) -> None:
    """KServe reads the first two members, TensorFlow Serving's clients the third."""
    status = {"error_code": "OK", "error_message": ""}
    versions = [{"version": "1", "state": "AVAILABLE", "status": status}]
    expected = {"name": "tiny", "ready": True, "model_version_status": versions}
    assert server.get(path).json() == expected


def test_metadata_in_both_cases(server: Server) -> None:
    answer = server.get(f"{MODEL}/metadata").json()
    assert answer["model_spec"] == answer["modelSpec"]
    assert answer["model_spec"]["version"] == "1"
    definitions = answer["metadata"]["signature_def"]
    assert definitions["signature_def"] == definitions["signatureDef"]
    signature = definitions["signature_def"]["serving_default"]
    image = signature["inputs"]["image"]
    assert image["dtype"] == "DT_UINT8"
    assert image["tensor_shape"] == image["tensorShape"]
    assert [one["size"] for one in image["tensor_shape"]["dim"]] == ["-1", "8", "8", "3"]
    probabilities = signature["outputs"]["probabilities"]
    assert [one["size"] for one in probabilities["tensorShape"]["dim"]] == ["-1", "3"]
    assert "labels" in definitions["signature_def"]["labels"]["outputs"]


def test_liveness_as_kserve_asks_it(server: Server) -> None:
    assert server.get("/").json()["status"] == "alive"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PREDICT, 405), ("POST", MODEL, 405), ("GET", "/v1/model", 404)],
)
def test_errors_before_any_route_have_the_same_shape(
    server: Server, method: str, path: str, status: int
) -> None:
    assert_error(server.ask(method, path), status, "")
