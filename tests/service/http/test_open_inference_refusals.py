"""What the Open Inference Protocol's routes refuse, each time as its clients read it."""

import base64
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.server import Reply, Server, assert_problem
from tests.service.http.open_inference import (
    INFER,
    LENGTH,
    RED,
    TENSOR,
    answer_of,
    as_json,
    files,
    pixels,
    post,
    prefixed,
)

BASE64 = base64.b64encode(RED).decode()
NUMBERS = TENSOR.tolist()


def assert_error(reply: Reply, status: int, part: str) -> None:
    """KServe's client shows the text only of exactly this type."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    found = reply.json()
    assert set(found) == {"error"}
    assert part in found["error"], found
    assert len(reply.body) < 2000


@pytest.fixture(autouse=True)
def answers_afterwards(server: Server) -> Iterator[None]:
    """Whatever was refused, the next good request is answered."""
    yield
    answer_of(post(server, as_json(files([1], data=[BASE64]))))


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "JSON cannot be read"),
        (RED, "it is PNG; send"),
        (b"{}", "`inputs`"),
        (b"[]", "JSON cannot be read"),
        (b'{"inputs": {}}', "$.inputs"),
        (as_json(inputs=[]), "length 1 - at `$.inputs`"),
        (as_json(inputs=[{"name": "image"} | pixels(NUMBERS)] * 2), "length 1 - at `$.inputs`"),
        (as_json(inputs=[{}]), "`name`"),
        (b'{"inputs": [' + b"{}," * 1_000_000 + b"{}]}", "JSON cannot be read"),
        (b'{"id": "' + b"a" * 5000 + b'"}', "`$.id`"),
        (b'{"id": "\xff"}', "JSON cannot be read"),
        (b"[" * 150_000 + b"]" * 150_000, "JSON cannot be read"),
        (b'{"x": ' + b"[" * 150_000 + b"]" * 150_000 + b"}", "nested too deeply"),
        (b'{"inputs": ' + b'[{"data": ' * 150_000, "JSON cannot be read"),
        (as_json(pixels(NUMBERS), outputs=5), 'send "outputs": [{"name": "probabilities"}]'),
        (as_json(pixels(NUMBERS), parameters=[]), "`$.parameters`"),
        (as_json(pixels(NUMBERS, "?")).replace(b"?", b"\xff" * 2000), "UINT8"),
        (as_json(pixels(NUMBERS), outputs="?").replace(b"?", b"\xff"), "JSON cannot be read"),
        (as_json(files(data=["?"])).replace(b"?", b"\xff"), "JSON cannot be read"),
    ],
)
def test_json_that_is_no_request(server: Server, body: bytes, part: str) -> None:
    assert_error(post(server, body), 400, part)


EXPECTED = "send UINT8 [N, 8, 8, 3] for pixels, or BYTES [N] for image files"


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        (pixels(NUMBERS, name="input_1"), "one input, 'image', and no 'input_1'"),
        (pixels(NUMBERS, datatype="FP32"), EXPECTED),
        (pixels(NUMBERS, datatype=""), EXPECTED),
        (pixels(NUMBERS, datatype="A" * 100_000), EXPECTED),
        (pixels(NUMBERS, [3, 3, 8, 8]), EXPECTED),
        (pixels(NUMBERS, [8, 8, 3]), EXPECTED),
        (pixels([], [0, 8, 8, 3]), EXPECTED),
        (pixels(NUMBERS, [-1, 8, 8, 3]), EXPECTED),
        (pixels(NUMBERS, []), EXPECTED),
        (pixels(NUMBERS, [1] * 100_000), EXPECTED),
        (pixels(NUMBERS, [2**60 + 2, 2, 2, 2, 2]), EXPECTED),
        (pixels(NUMBERS, "3"), "shape"),
        (pixels(NUMBERS, [3.5, 8, 8, 3]), "shape"),
        (pixels(NUMBERS, [2, 8, 8, 3]), "384 numbers are expected, 576 are there"),
        (pixels(NUMBERS[0]), "576 numbers are expected, 192 are there"),
        (pixels([256] * 576), "whole numbers from 0 to 255"),
        (pixels([0.5] * 576), "whole numbers from 0 to 255"),
        (pixels([None] * 576), "whole numbers from 0 to 255"),
        (pixels({"b64": BASE64}), "576 numbers are expected"),
        (pixels(), "no data"),
        (pixels(NUMBERS, parameters={"binary_data_size": 576}), "in the JSON and behind it"),
        (pixels(parameters={"binary_data_size": 576}), "0 bytes are behind the JSON"),
        (pixels(parameters={"binary_data_size": 0.5}), "binary_data_size"),
        (pixels(parameters={"binary_data_size": "576"}), "a tensor of shape [3, 8, 8, 3] has 576"),
        (files([]), EXPECTED),
        (files([0], data=[]), EXPECTED),
        (files([1, 2], data=[[BASE64, BASE64]]), EXPECTED),
        (files([2], data=[BASE64]), "the data are 1 strings, the shape says 2"),
        (files([1], data=[BASE64] * 2), "more are there"),
        (files([1], data=BASE64), "send the data as 1 strings"),
        (files([1], data=[5]), "send the data as 1 strings"),
        (files([1], data=["no base64!"]), "no base64"),
        (files([1], data=[""]), "no bytes"),
    ],
)
def test_an_input_that_the_model_does_not_take(
    server: Server, tensor: dict[str, Any], part: str
) -> None:
    assert_error(post(server, as_json(tensor)), 400, part)


@pytest.mark.parametrize(
    ("outputs", "part"),
    [
        ([{"name": "logits"}], "the model has one output, 'probabilities'"),
        ([{"name": "probabilities"}] * 2, "the model has one output"),
        ([{"name": "probabilities"}] * 100_000, "too many outputs"),
        ([{"name": "probabilities", "parameters": {"classification": -1}}], "classification is -1"),
        ([{"name": "probabilities", "parameters": {"classification": "3"}}], "classification"),
        ([{}], "name"),
    ],
)
def test_an_output_that_the_model_does_not_give(
    server: Server, outputs: list[dict[str, Any]], part: str
) -> None:
    assert_error(post(server, as_json(pixels(NUMBERS), outputs=outputs)), 400, part)


@pytest.mark.parametrize(
    ("tensor", "behind", "part"),
    [
        (pixels(), TENSOR.tobytes()[:-1], "has 576 bytes, 575 are there"),
        (pixels(parameters={"binary_data_size": 575}), TENSOR.tobytes(), "is 575, and 576 bytes"),
        (pixels(parameters={"binary_data_size": -1}), TENSOR.tobytes(), "is -1"),
        (pixels(NUMBERS), TENSOR.tobytes(), "in the JSON and behind it"),
        (files(), prefixed(RED), "not 2 files"),
        (files(), prefixed(RED, RED, RED), "not 2 files"),
        (files(), b"\xff\xff\xff\xff" + prefixed(RED), "not 2 files"),
        (files([1]), RED[4:], "not 1 files"),
        (files([1]), b"abc", "not 1 files"),
        (files(parameters={"binary_data_size": "5,6"}), RED, "lengths of 2 files"),
        (files(parameters={"binary_data_size": f"{len(RED)}"}), RED, "lengths of 2 files"),
        (files(parameters={"binary_data_size": "-1,5"}), RED, "lengths of 2 files"),
        (files(parameters={"binary_data_size": "," * 1_000_000}), RED, "lengths of 2 files"),
        (files(parameters={"binary_data_size": "9" * 5000}), RED, "lengths of 2 files"),
    ],
)
def test_bytes_that_do_not_add_up(
    server: Server, tensor: dict[str, Any], behind: bytes, part: str
) -> None:
    assert_error(post(server, as_json(tensor), behind), 400, part)


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", " ", "9" * 15, "9" * 5000, "1000000"])
def test_a_length_that_lies(server: Server, length: str) -> None:
    body = as_json(pixels()) + TENSOR.tobytes()
    assert_error(server.post(INFER, body, {LENGTH: length}), 400, LENGTH)


@pytest.mark.parametrize("length", ["1", "10"])
def test_a_length_that_cuts_the_json(server: Server, length: str) -> None:
    body = as_json(pixels()) + TENSOR.tobytes()
    assert_error(server.post(INFER, body, {LENGTH: length}), 400, "JSON cannot be read")


def test_a_raw_request_without_anything(server: Server) -> None:
    assert_error(server.post(INFER, b"", {LENGTH: "0"}), 400, "no bytes")
    assert_error(server.post(INFER, b"hello", {LENGTH: "0"}), 415, "")


@pytest.mark.parametrize(
    ("head", "behind"),
    [
        (as_json(pixels(shape=[65, 8, 8, 3])), bytes(65 * 192)),
        (as_json(pixels([0] * 65 * 192, [65, 8, 8, 3])), b""),
        (as_json(files([65], data=[BASE64] * 65)), b""),
        (as_json(files([10**9])), prefixed(RED)),
        (as_json(pixels(shape=[2**60 + 2, 8, 8, 3])), bytes(128)),
        (as_json(pixels(shape=[10**1000, 8, 8, 3])), bytes(128)),
        (b"", bytes(65 * 192)),
    ],
)
def test_too_many_images(server: Server, head: bytes, behind: bytes) -> None:
    assert_error(post(server, head, behind), 413, "64 are allowed")


def test_one_image_of_several_cannot_be_read(server: Server) -> None:
    """The protocol has one error for a request: it says which image is the reason."""
    for broken, status in ((b"hello", 415), (RED[:40], 422), (b"", 400)):
        reply = post(server, as_json(files([3])), prefixed(RED, broken, RED))
        assert_error(reply, status, "image 2 of 3: ")


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("POST", "/v2/models/other/infer", 404, "there is 'tiny'"),
        ("POST", "/v2/models/tiny/versions/2/infer", 404, "there is 1"),
        ("GET", "/v2/models/other", 404, "there is 'tiny'"),
        ("GET", "/v2/models/tiny/versions/7", 404, "there is 1"),
        ("GET", "/v2/models/other/ready", 404, "there is 'tiny'"),
        ("GET", "/v2/models/other/config", 404, "there is 'tiny'"),
        ("GET", "/v2/models/other/stats", 404, "there is 'tiny'"),
        ("POST", "/v2/repository/models/other/load", 404, "there is 'tiny'"),
        ("POST", "/v2/repository/models/tiny/load", 400, "replace the model file"),
        ("POST", "/v2/repository/models/tiny/unload", 400, "replace the model file"),
        ("GET", INFER, 405, "not allowed"),
        ("POST", "/v2/models/tiny", 405, "not allowed"),
        ("GET", "/v2/nothing", 404, "not found"),
        ("GET", "/v2/repository/index", 405, "not allowed"),
    ],
)
def test_what_is_not_there(server: Server, method: str, path: str, status: int, part: str) -> None:
    assert_error(server.ask(method, path), status, part)


def test_what_is_refused_before_the_body_is_read(server: Server) -> None:
    for headers, status, part in (
        ({"Content-Length": "64100000"}, 413, "are allowed"),
        ({"Content-Length": "10", "Content-Encoding": "gzip"}, 415, "gzip"),
        ({"Content-Length": "10", "Content-Type": "multipart/form-data"}, 415, LENGTH),
    ):
        lines = [f"POST {INFER} HTTP/1.1", "Host: test"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with server.wire() as wire:
            reply = wire.send("\r\n".join([*lines, "", ""]).encode()).reply()
        assert_error(reply, status, part)


def test_many_tiny_chunks(server: Server) -> None:
    """A body in chunks of one byte is read, and refused for what it says."""
    body = (
        b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    begun = time.monotonic()
    with server.wire() as wire:
        wire.send(body + b"1\r\n[\r\n" * 100_000 + b"0\r\n\r\n")
        assert_error(wire.reply(), 400, "JSON cannot be read")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("tensor", "filler"),
    [(pixels([0]), b"0,"), (pixels([0]), b"[],"), (files(data=[0]), b'"",')],
    ids=["numbers", "brackets", "strings"],
)
def test_a_large_hostile_body_takes_neither_time_nor_memory(
    server: Server, tensor: dict[str, Any], filler: bytes
) -> None:
    """30 MB where a few kilobytes are expected."""
    before = server.resident()
    server.forget_peak()
    data = b"[" + filler * (30_000_000 // len(filler)) + filler[:-1] + b"]"
    begun = time.monotonic()
    assert_error(post(server, as_json(tensor).replace(b"[0]", data)), 400, "expected")
    assert time.monotonic() - begun < 10
    assert server.peak() - before < 100_000_000  # asyncio's worker joins the pieces of a body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\nA: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /v2/" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /v2 HTTP/1.1\r\nno field\r\n\r\n", 400),
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_the_transport_refuses(
    request: pytest.FixtureRequest, server: Server, request_bytes: bytes, status: int
) -> None:
    """A head that cannot be read has a path all the same; gunicorn's parser does not tell it."""
    with server.wire() as wire, suppress(OSError):
        wire.send(request_bytes)
        reply = wire.reply()
    if request.node.callspec.params["server"] == "asyncio":
        assert_error(reply, status, "")
    else:
        assert_problem(reply, reply.status, None)
