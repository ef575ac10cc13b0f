"""A client says that it sends nothing more (``nc -N``, socat, some proxies) and waits.

RFC 9112: a half-close is no loss of interest. Who has really gone is noticed all the same, and the
work is dropped.
"""

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.images import encode, photograph
from tests.server import WORKERS, Server, Wire, eventually, multipart, raw_request, start_server

SMALL = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
# Decoded by a thread, in a hundred times what the first probe of a half-closed client waits.
LARGE = encode(photograph(1, 2000, 3000), "PNG", compress_level=1)
FORM, FORM_HEADERS = multipart(("a", "a.png", LARGE), ("b", "b.png", SMALL))
REQUESTS = {
    "small": raw_request("/predict", SMALL),
    "large": raw_request("/predict", LARGE),
    "batch": raw_request("/predict/batch", FORM, headers=FORM_HEADERS),
    "chunked": (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)
    ),
    "refused": raw_request("/predict", LARGE[:-2000]),
}
CLIENTS = 9


@pytest.fixture(scope="module", params=WORKERS)
def one_decoder(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, worker=request.param, decoders=1) as running:
        yield running


@pytest.mark.parametrize("kind", REQUESTS)
def test_it_gets_its_answer(one_decoder: Server, kind: str) -> None:
    with one_decoder.wire() as wire:
        wire.send(REQUESTS[kind])
        wire.sock.shutdown(socket.SHUT_WR)
        reply = wire.reply()
        assert reply.status == (422 if kind == "refused" else 200), reply.body
        if kind == "batch":
            assert all("predictions" in one for one in reply.json()["results"])
        assert wire.ended()


def test_it_gets_all_of_its_answers(one_decoder: Server) -> None:
    """Pipelined requests; what is left of another one when the client ends is none."""
    with one_decoder.wire() as wire:
        wire.send(REQUESTS["large"] + REQUESTS["small"] + REQUESTS["large"])
        wire.send(raw_request("/predict", SMALL, headers={"X-Request-ID": "cut"})[:-5])
        wire.sock.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: wire.sock.recv(65536), b""))
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert statuses[:3] == [b"200"] * 3
    assert statuses[3:] in ([], [b"400"])
    assert not one_decoder.tracebacks


def test_who_has_gone_is_noticed(tiny_model: Path) -> None:
    """By the loop alone: a thread of gthread's looks at its client when it writes."""
    with start_server(tiny_model, decoders=1) as server:
        for how in ("closed", "reset", "half closed, then closed"):
            before = len(server.requests(status=499))
            with ExitStack() as clients:
                wires = [clients.enter_context(server.wire()) for _ in range(CLIENTS)]
                for wire in wires:
                    wire.send(REQUESTS["large"])
                assert eventually(lambda: in_flight(server) > CLIENTS / 2)
                for wire in wires:
                    leave(wire, how)
            assert eventually(lambda: in_flight(server) == 0)
            assert len(server.requests(status=499)) - before > CLIENTS / 3
        assert server.post("/predict", SMALL).status == 200
        assert not server.tracebacks


def in_flight(server: Server) -> float:
    return server.metric("labelserve_requests_in_flight")


def leave(wire: Wire, how: str) -> None:
    if how == "reset":
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half closed, then closed":
        wire.sock.shutdown(socket.SHUT_WR)
    wire.sock.close()
