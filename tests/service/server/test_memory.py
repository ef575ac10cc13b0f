"""Nothing is left of a connection that has ended: neither memory nor descriptors nor objects."""

import gc
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.server.protocol import Connection
from tests.images import encode
from tests.server import Server, ServerError, Wire, eventually, raw_request, start_server
from tests.service.server.in_process import serving

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
LIVE = raw_request("/health/live", method="GET")
PREDICT = raw_request("/predict", RED)

ROUND = 1200
# What an allocator may keep after a round without its being a leak.
SLACK_BYTES = 3_000_000


@pytest.fixture(scope="module")
def alone(tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, log_level="warning") as running:
        yield running


def one_of_each(server: Server, number: int) -> None:
    """A short connection of one of several kinds."""
    with server.wire() as wire:
        match number % 6:
            case 0:
                wire.send(LIVE).reply()
            case 1:
                wire.send(PREDICT).reply()
            case 2:
                wire.send(PREDICT[:-5])  # and gone, in the middle of the body
            case 3:
                wire.send(LIVE[:10])  # in the middle of the head
            case 4:
                wire.send(b"\x16\x03\x01garbage\r\n\r\n").reply()
            case _:
                wire.send(PREDICT)
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_thousands_of_short_connections_leave_nothing(alone: Server) -> None:
    for number in range(ROUND):  # everything that is made once is made
        one_of_each(alone, number)
    descriptors, before = alone.descriptors_at_rest(), alone.resident()
    grown = []
    for _ in range(2):
        for number in range(ROUND):
            one_of_each(alone, number)
        assert alone.descriptors_at_rest() <= descriptors
        grown.append(alone.resident() - before)
    # A leak of one connection's buffers and objects, some 5 kB, would be 6 MB a round.
    assert grown[-1] < SLACK_BYTES, grown
    assert eventually(lambda: alone.metric("labelserve_requests_in_flight") == 0)
    assert not alone.tracebacks


def test_large_bodies_leave_nothing(alone: Server) -> None:
    """Sent whole, refused, and broken off, 10 MB each."""
    body = RED.ljust(10_000_000, b"\0")
    request = raw_request("/predict", body)

    def some() -> None:
        for _ in range(4):
            assert alone.post("/predict", body).status == 200
            assert alone.post("/predict", body, {"Content-Type": "text/plain"}).status == 415
            with alone.wire() as wire, suppress(OSError, ServerError):
                wire.send(request[: len(request) // 2])

    some()
    before = alone.resident()
    some()
    assert eventually(lambda: alone.resident() - before < 15_000_000)


@pytest.mark.parametrize(
    "data",
    [b"", LIVE[:10], LIVE, PREDICT[:-5], PREDICT + LIVE],
    ids=["nothing", "half a head", "whole", "half a body", "pipelined"],
)
def test_a_closed_connection_is_freed_without_the_collector(
    tiny_model: Path, tiny_classifier: Classifier, data: bytes
) -> None:
    """The parser holds the connection, which holds the parser: closing has to break that circle."""

    def connections() -> int:
        return sum(isinstance(one, Connection) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with serving(tiny_classifier, tiny_model) as port:
            with Wire(port) as wire:
                if data:
                    wire.send(data)
                assert eventually(lambda: connections() == 1)
            assert eventually(lambda: connections() == 0)
    finally:
        gc.enable()
