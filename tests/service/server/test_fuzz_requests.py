"""Whatever bytes come for a request, what goes wrong is said in the words meant for it."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from service.serving.context import request_id_of
from service.serving.errors import RequestError
from service.serving.parameters import parse_selection
from service.serving.uploads import check_media_type, uploads
from tests.server import start_server

FUZZ = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="a"; filename="f.png"\r\n'
    b"Content-Type: image/png\r\n\r\nabc\r\n--x--\r\n"
)
SEEDS = [
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /predict?top_k=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;q=1\r\nabc\r\n0\r\nX: y\r\n\r\n"
    ),
    b"POST /predict HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://a/%00%ff?%zz HTTP/1.1\r\nHost: a\r\nCookie: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    (
        b"POST /predict HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    ),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes cut, doubled, exchanged or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(["cut", "double", "put"]))
        piece = draw(st.binary(max_size=8)) if kind == "put" else bytes(data[start:end])
        data[start:end] = b"" if kind == "cut" else piece + piece if kind == "double" else piece
    return bytes(data)


@pytest.fixture(scope="module")
def port(tiny_model: Path) -> Iterator[int]:
    with start_server(tiny_model, workers=1, head_timeout=5, body_timeout=5) as server:
        yield server.port
        assert not server.tracebacks


@FUZZ
@given(data=mutated(SEEDS), cuts=st.lists(st.integers(1, 40), max_size=6))
@example(data=b"\r\n" * 20 + SEEDS[0], cuts=[1, 1, 1])
@example(data=SEEDS[2].replace(b"3;q=1", b"10000000000000003"), cuts=[])
def test_requests_in_pieces(port: int, data: bytes, cuts: list[int]) -> None:
    """Whatever comes, what goes back is HTTP, and the service goes on."""
    address = ("127.0.0.1", port)
    with socket.create_connection(address, timeout=30) as wire, suppress(ConnectionError):
        for cut in [*cuts, len(data)]:
            piece, data = data[:cut], data[cut:]
            wire.sendall(piece)
        wire.shutdown(socket.SHUT_WR)
        found = b"".join(iter(lambda: wire.recv(65536), b""))
        assert found == b"" or re.match(rb"HTTP/1\.1 [1-5]\d\d ", found)
        assert b" 500 " not in found


@FUZZ
@given(
    body=mutated([FORM, FORM.replace(b"abc", b"--x\r\n" * 5), FORM * 3]),
    content_type=st.sampled_from(
        [
            "multipart/form-data; boundary=x",
            'multipart/form-data; boundary="x"',
            "multipart/form-data",
        ]
    ),
)
@example(body=FORM[:-4], content_type="multipart/form-data; boundary=x")
def test_forms(body: bytes, content_type: str) -> None:
    with suppress(RequestError):
        for upload in uploads(body, content_type, max_files=3):
            assert isinstance(upload.filename, str)
            assert upload.data in body


@FUZZ
@given(text=st.text(max_size=40))
@example(text="multipart/form-data; boundary*=x''%ff")
def test_parameters_and_headers(text: str) -> None:
    with suppress(RequestError):
        assert (parse_selection(f"top_k={text}").top_k or 1) >= 1
    with suppress(RequestError):
        assert 0 <= parse_selection(f"min_probability={text}").min_probability <= 1
    with suppress(RequestError):
        check_media_type(text)
    plain = request_id_of(Headers({"X-Request-ID": text.replace("\r", "").replace("\n", "")}))
    assert plain.isascii()
    assert 1 <= len(plain) <= 64
