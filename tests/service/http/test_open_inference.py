"""The Open Inference Protocol over REST, under both workers: requests and their answers."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from service.inference.classifier import Classifier
from tests.server import Server, eventually
from tests.service.http.open_inference import (
    GREEN,
    INFER,
    LENGTH,
    RED,
    TENSOR,
    answer_of,
    as_json,
    files,
    pixels,
    post,
    predicted,
    prefixed,
    rows_of,
)

VERSIONED = "/v2/models/tiny/versions/1"
BASE64 = [base64.b64encode(image).decode() for image in (RED, GREEN)]
RAW = {LENGTH: "0"}


# ---- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "behind"),
    [
        (as_json(pixels(TENSOR.tolist())), b""),
        (as_json(pixels(TENSOR.ravel().tolist())), b""),
        (as_json(pixels(parameters={"binary_data_size": TENSOR.nbytes})), TENSOR.tobytes()),
        (as_json(pixels()), TENSOR.tobytes()),
        (b"", TENSOR.tobytes()),
    ],
    ids=["nested", "flat", "bytes", "bytes without size", "raw"],
)
def test_pixels(server: Server, tiny_classifier: Classifier, head: bytes, behind: bytes) -> None:
    """Bit for bit what the classifier says of them, as numbers and as bytes."""
    found = rows_of(post(server, head, behind))
    assert np.array_equal(found, tiny_classifier.predict(TENSOR))


def test_as_many_pixels_as_a_request_may_hold(server: Server, tiny_classifier: Classifier) -> None:
    tensor = np.random.default_rng(3).integers(0, 256, (64, 8, 8, 3), np.uint8)
    head = as_json(pixels(shape=[64, 8, 8, 3]), parameters={"binary_data_output": True})
    found = rows_of(post(server, head, tensor.tobytes()))
    assert np.allclose(found, tiny_classifier.predict(tensor), atol=1e-6)


# ---- image files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "behind"),
    [
        (as_json(files(data=BASE64)), b""),
        (as_json(files([2, 1], data=[[one] for one in BASE64])), b""),
        (as_json(files([2, 1], data=BASE64, parameters={"content_type": "base64"})), b""),
        (as_json(files([2, 1])), prefixed(RED, GREEN)),
        (
            as_json(files(parameters={"binary_data_size": 8 + len(RED) + len(GREEN)})),
            prefixed(RED, GREEN),
        ),
        (as_json(files(parameters={"binary_data_size": f"{len(RED)},{len(GREEN)}"})), RED + GREEN),
    ],
    ids=["base64", "column", "MLServer", "without size", "Triton", "OVMS 2022"],
)
def test_image_files(server: Server, head: bytes, behind: bytes) -> None:
    """They are decoded as by /predict, and answered the same."""
    assert np.array_equal(rows_of(post(server, head, behind)), predicted(server, RED, GREEN))


@pytest.mark.parametrize(
    ("head", "behind"),
    [(b"", GREEN), (as_json(files([1])), GREEN), (as_json(files([1])), prefixed(GREEN))],
    ids=["raw", "OVMS without a length", "with its length"],
)
def test_one_image_file(server: Server, head: bytes, behind: bytes) -> None:
    assert np.array_equal(rows_of(post(server, head, behind)), predicted(server, GREEN))


def test_the_raw_request_is_answered_as_bytes(server: Server) -> None:
    reply = server.post(INFER, RED, RAW)
    assert int(reply.headers[LENGTH]) == len(reply.body) - 12


# ---- answers -------------------------------------------------------------------------------------


def test_what_an_answer_says(server: Server) -> None:
    """The id is the request's; without one there is none."""
    head = as_json(files([1], data=BASE64[:1]), id="request 7")
    answer = answer_of(post(server, head, path=f"{VERSIONED}/infer"))
    assert {name: answer[name] for name in ("model_name", "model_version", "id")} == {
        "model_name": "tiny",
        "model_version": "1",
        "id": "request 7",
    }
    assert answer["outputs"][0]["shape"] == [1, 3]
    assert "id" not in answer_of(post(server, as_json(files([1], data=BASE64[:1]))))


@pytest.mark.parametrize(
    ("members", "binary"),
    [
        ({}, False),
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}, True),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
            },
            False,
        ),
        ({"outputs": [], "parameters": None, "id": None}, False),
        ({"outputs": None, "parameters": {"sequence_id": 3, "timeout": 5}}, False),
    ],
)
def test_numbers_or_bytes(server: Server, members: dict[str, Any], binary: bool) -> None:
    reply = post(server, as_json(pixels(TENSOR.tolist()), **members))
    assert (LENGTH in reply.headers) == binary
    assert rows_of(reply).shape == (3, 3)


def test_classification(server: Server, tiny_classifier: Classifier) -> None:
    """The best labels as text, as Triton writes them, in JSON and behind their lengths."""
    rows = tiny_classifier.predict(TENSOR)
    wanted = []
    for row in rows:
        best = sorted(range(3), key=(-row).__getitem__)[:2]
        wanted += [f"{row[i]:.6f}:{i}:{tiny_classifier.card.labels[i]}" for i in best]

    def ask(**parameters: object) -> Any:
        outputs = [{"name": "probabilities", "parameters": parameters}]
        return post(server, as_json(pixels(TENSOR.tolist()), outputs=outputs))

    (output,) = answer_of(ask(classification=2))["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [3, 2], wanted)
    reply = ask(classification=2, binary_data=True)
    length = int(reply.headers[LENGTH])
    assert reply.body[length:] == prefixed(*(text.encode() for text in wanted))
    (output,) = json.loads(reply.body[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(reply.body) - length
    (output,) = answer_of(ask(classification=99))["outputs"]
    assert output["shape"] == [3, 3]


# ---- descriptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v2", {"name": "labelserve", "version": "0.1.0"}),
        ("/v2/", {"name": "labelserve"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        (f"{VERSIONED}/ready", {"name": "tiny", "ready": True}),
        (
            "/v2/models/tiny",
            {
                "name": "tiny",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
                "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
            },
        ),
        (VERSIONED, {"name": "tiny"}),
        (
            "/v2/models/tiny/config",
            {
                "name": "tiny",
                "max_batch_size": 64,
                "input": [
                    {
                        "name": "image",
                        "data_type": "TYPE_UINT8",
                        "format": "FORMAT_NHWC",
                        "dims": [8, 8, 3],
                    }
                ],
                "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]}],
            },
        ),
        (f"{VERSIONED}/config", {"backend": "onnxruntime"}),
    ],
)
def test_descriptions(server: Server, path: str, part: dict[str, Any]) -> None:
    found = answer_of(server.get(path))
    assert found | part == found
    assert server.ask("HEAD", path).status == 200


def test_the_repository_has_one_model(server: Server) -> None:
    for body in (b"", b"{}", b'{"ready": true}'):
        reply = server.post("/v2/repository/index", body)
        assert reply.json() == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize(
    "path", ["/v2/models/tiny/stats", f"{VERSIONED}/stats", "/v2/models/stats"]
)
def test_statistics(server: Server, path: str) -> None:
    """They count images and requests; perf_analyzer reads every one of these members."""

    def stats() -> Any:
        (found,) = server.get(path).json()["model_stats"]
        return found

    before = stats()
    times = before["inference_stats"]
    assert set(times) == {
        *("success", "fail", "queue", "cache_hit", "cache_miss"),
        *("compute_input", "compute_infer", "compute_output"),
    }
    assert all(set(time) == {"count", "ns"} for time in times.values())
    assert {"name", "version", "last_inference", "batch_stats"} < set(before)
    post(server, as_json(pixels(TENSOR.tolist())))
    post(server, as_json())
    assert eventually(lambda: stats()["inference_count"] == before["inference_count"] + 3)
    after = stats()
    assert after["execution_count"] == before["execution_count"] + 1
    for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        assert after["inference_stats"][name]["count"] == times[name]["count"] + 1
    assert after["inference_stats"]["success"]["ns"] > times["success"]["ns"]
