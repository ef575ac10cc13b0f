"""A client, or a proxy, compresses what it sends: it is told that nothing is unpacked."""

import gzip

import pytest
from PIL import Image

from tests.images import encode
from tests.server import Server, assert_problem, multipart

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["gzip"], "gzip"),
        (["GZip"], "gzip"),
        (["x-gzip"], "x-gzip"),
        (["deflate"], "deflate"),
        (["br"], "br"),
        (["zstd"], "zstd"),
        (["gzip, identity"], "gzip"),
        (["identity,gzip ,br"], "gzip, br"),
        (["identity", "gzip"], "gzip"),
    ],
)
@pytest.mark.parametrize("body", [RED, gzip.compress(RED)], ids=["plain", "compressed"])
def test_a_coding_is_415_and_named(
    server: Server, lines: list[str], named: str, body: bytes
) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"Content-Encoding: {line}\r\n" for line in lines)
    with server.wire() as wire:
        reply = wire.send(head.encode() + b"\r\n" + body).reply()
    problem = assert_problem(reply, 415, "unsupported-coding")
    assert f"declared as {named}:" in problem["detail"]
    assert reply.headers["Accept-Encoding"] == "identity"


def test_a_batch_is_refused_too(server: Server) -> None:
    body, headers = multipart(("a", "a", RED))
    reply = server.post("/predict/batch", body, {**headers, "Content-Encoding": "gzip"})
    assert_problem(reply, 415, "unsupported-coding")
    assert reply.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity", " ,"])
def test_identity_is_none(server: Server, coding: str) -> None:
    reply = server.post("/predict", RED, {"Content-Encoding": coding})
    assert reply.status == 200
    assert "Accept-Encoding" not in reply.headers


def test_other_refusals_do_not_speak_of_codings(server: Server) -> None:
    reply = server.post("/predict", b"no image")
    assert_problem(reply, 415, "unsupported-format")
    assert "Accept-Encoding" not in reply.headers
