"""HTTP as bytes: split, pipelined, malformed, oversized, half closed; under both workers."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.images import encode
from tests.server import (
    WORKERS,
    Server,
    ServerError,
    Wire,
    assert_problem,
    eventually,
    multipart,
    raw_request,
    start_server,
)

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
GREEN = encode(Image.new("RGB", (9, 7), (20, 240, 90)), "PNG")
LIVE = raw_request("/health/live", method="GET")


def chunked(*chunks: bytes) -> bytes:
    """A chunked body, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def chunked_head(path: str = "/predict") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def top_label(wire: Wire) -> str:
    reply = wire.reply()
    assert reply.status == 200, reply.body
    label: str = reply.json()["predictions"][0]["label"]
    return label


@pytest.fixture(scope="module", params=WORKERS)
def worker(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def server(worker: str, tiny_model: Path) -> Iterator[Server]:
    """One of this module's own: what is malformed here is counted in no other module."""
    with start_server(tiny_model, worker=worker) as running:
        yield running


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with server.wire() as connection:
        yield connection


# ---- one after the other -------------------------------------------------------------------------


def test_a_connection_is_used_again(wire: Wire) -> None:
    for _ in range(30):
        assert top_label(wire.send(raw_request("/predict", RED))) == "red"
        assert wire.send(LIVE).reply().status == 200
        assert_problem(wire.send(raw_request("/nothing", b"abc")).reply(), 404, None)


def test_errors_leave_the_connection_usable(wire: Wire) -> None:
    for path, body, status, slug in [
        ("/predict", b"no image", 415, "unsupported-format"),
        ("/predict?top_k=0", RED, 400, "bad-parameter"),
        ("/predict", b"", 400, "missing-image"),
        ("/predict/batch", b"", 415, "wrong-media-type"),
    ]:
        assert_problem(wire.send(raw_request(path, body)).reply(), status, slug)
    assert top_label(wire.send(raw_request("/predict", GREEN))) == "green"


def test_pipelined_in_one_segment_answered_in_order(wire: Wire) -> None:
    form, headers = multipart(("a", "a", RED), ("b", "b", GREEN))
    requests = [
        raw_request("/predict", RED),
        raw_request("/predict", GREEN),
        LIVE,
        raw_request("/nothing", method="GET"),
        chunked_head() + chunked(RED[:10], RED[10:]),
        raw_request("/predict/batch?top_k=1", form, headers=headers),
        raw_request("/predict", b"text", headers={"Content-Type": "text/plain"}),
        raw_request("/model", method="GET"),
        raw_request("/predict", GREEN),
    ]
    wire.send(b"".join(requests))
    assert top_label(wire) == "red"
    assert top_label(wire) == "green"
    assert wire.reply().json() == {"status": "live"}
    assert_problem(wire.reply(), 404, None)
    assert top_label(wire) == "red"
    results = wire.reply().json()["results"]
    assert [r["predictions"][0]["label"] for r in results] == ["red", "green"]
    assert_problem(wire.reply(), 415, "wrong-media-type")
    assert wire.reply().json()["name"] == "tiny"
    assert top_label(wire) == "green"


def test_large_bodies_in_one_segment(wire: Wire) -> None:
    """A request behind another one keeps its body, though its limit is not known yet."""
    large = [raw_request("/predict", image.ljust(100_000, b"\0")) for image in (RED, GREEN)]
    wire.send(b"".join(large * 3))
    assert [top_label(wire) for _ in range(6)] == ["red", "green"] * 3


def test_a_flood_of_pipelined_requests_stays_in_order(wire: Wire) -> None:
    """More than one read takes, and refused at once: nothing may overtake what has come before."""
    count = 2500
    padding = "x" * 300
    requests = b"".join(
        raw_request(
            "/predict",
            headers={"Content-Type": "text/plain", "X-Request-ID": f"n{number}", "X": padding},
        )
        for number in range(count)
    )
    sender = threading.Thread(target=wire.send, args=(requests,))
    sender.start()
    for number in range(count):
        reply = wire.reply()
        assert (reply.status, reply.headers["X-Request-ID"]) == (415, f"n{number}")
    sender.join()
    assert wire.send(LIVE).reply().status == 200


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_split_at_every_byte(wire: Wire, form: str) -> None:
    request = (
        raw_request("/predict", RED)
        if form == "length"
        else chunked_head() + chunked(RED[:5], RED[5:])
    )
    for position in range(1, len(request)):
        wire.send(request[:position])
        time.sleep(0.001)  # so that it is a segment, and read, of its own
        assert top_label(wire.send(request[position:])) == "red"


def test_byte_by_byte(wire: Wire) -> None:
    for byte in chunked_head() + chunked(RED[:7], RED[7:]) + LIVE:
        wire.send(bytes([byte]))
    assert top_label(wire) == "red"
    assert wire.reply().status == 200


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET /health/live HTTP/1.0\r\n\r\n", True),
        (b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", True),
        (b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", True),
        (b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", False),
    ],
)
def test_which_requests_end_the_connection(wire: Wire, head: bytes, *, closes: bool) -> None:
    reply = wire.send(head).reply()
    assert reply.json() == {"status": "live"}
    if closes:
        assert reply.headers["Connection"].lower() == "close"
        assert wire.ended()
    else:
        assert wire.send(head).reply().status == 200


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_field_names_are_spelled_in_any_way(wire: Wire, spelling: Callable[[str], str]) -> None:
    """Node's fetch writes them small."""
    body, headers = multipart(("a", "a", RED))
    fields = {**headers, "Content-Length": str(len(body)), "X-Request-ID": "mine"}
    lines = "".join(f"{spelling(name)}: {value}\r\n" for name, value in fields.items())
    wire.send(f"POST /predict HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode() + body + LIVE)
    reply = wire.reply()
    assert reply.json()["predictions"][0]["label"] == "red"
    assert reply.headers["X-Request-ID"] == "mine"
    assert wire.reply().json() == {"status": "live"}


def test_head_has_no_body_on_the_wire(wire: Wire) -> None:
    wire.send(raw_request("/model", method="HEAD") + LIVE)
    head = wire.reply("HEAD")
    assert head.status == 200
    assert int(head.headers["Content-Length"]) > 100
    assert wire.reply().json() == {"status": "live"}


# ---- targets -------------------------------------------------------------------------------------


# Where RFC 9112 leaves a choice, a worker may make either of two.
TARGETS = {
    "http://example.org/health/live": {200},
    "HTTP://example.org:8000/health/live?a=b": {200},
    "http://example.org": {200},
    "/health/%6Cive": {200},
    "/health/live?x=%00": {200},
    "/health/live%00": {404},
    "/health/live%0d%0aX-Evil:%201": {404},
    "/%ff%fe": {404},
    # No target has a fragment (RFC 9112, 3.2): it is malformed, or a path that does not exist.
    "/health/live#fragment": {400, 404},
    # The asterisk is for OPTIONS alone (RFC 9112, 3.2.4).
    "*": {400, 404},
    "/health/../health/live": {404},
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(worker: str, wire: Wire, target: str) -> None:
    reply = wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).reply()
    # gunicorn's own worker cuts a fragment off.
    cut_off = worker == "gthread" and "#" in target
    assert reply.status in ({200} if cut_off else TARGETS[target])
    assert "X-Evil" not in reply.headers
    if reply.status == 200:
        assert reply.json()["status"] == ("live" if "/health" in target else "alive")
    else:
        assert_problem(reply, reply.status, None)


# ---- what is no HTTP -----------------------------------------------------------------------------

_MANY_FIELDS = b"".join(b"A%d: 1\r\n" % n for n in range(150))
_MUCH_HEAD = b"".join(b"A%d: %b\r\n" % (n, b"x" * 8000) for n in range(99))

# 400 for what has no meaning (RFC 9112, 2.2, 3 and 5.1) and for every doubt about where a body ends
# (6.1 and 6.3). A version or a method that is not known may have its own status as well: 505 and
# 501 (RFC 9110, 15.6.6 and 9.1).
MALFORMED: dict[str, tuple[bytes, set[int]]] = {
    "garbage": (b"\x00\x01\x02\x03\r\n\r\n", {400}),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "version": (b"GET / HTTP/9.9\r\n\r\n", {400, 505}),
    "method": (b"get / HTTP/1.1\r\n\r\n", {400, 501}),
    "NUL in the target": (b"GET /health\0 HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    "NUL in a field": (b"GET /health HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", {400}),
    "blank before colon": (b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n", {400}),
    "field without colon": (b"GET /health HTTP/1.1\r\nHost\r\n\r\n", {400}),
    "long line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", {414}),
    "long field": (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", {431}),
    "many fields": (b"GET / HTTP/1.1\r\n" + _MANY_FIELDS + b"\r\n", {431}),
    "two lengths": (
        b"POST /predict HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        {400},
    ),
    "negative length": (b"POST /predict HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", {400}),
    "signed length": (b"POST /predict HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", {400}),
    "length of words": (b"POST /predict HTTP/1.1\r\nContent-Length: three\r\n\r\nabc", {400}),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "chunks in HTTP/1.0": (
        b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http_ends_the_connection(server: Server, name: str) -> None:
    """Where the next request would begin is unknown: nothing behind it may be answered."""
    data, statuses = MALFORMED[name]
    with server.wire() as wire:
        wire.send(data + LIVE)
        reply = wire.reply()
        assert reply.status in statuses
        assert_problem(reply, reply.status, None)
        assert reply.headers["Connection"] == "close"
        assert wire.ended()
    assert server.get("/health/live").status == 200


# A coding that is not understood is 501, a body that does not end with chunks is 400 (RFC 9112, 6.1
# and 6.3), and each of these is both or the first. gunicorn's own worker takes a body apart that
# ends with chunks, whatever else was done to it.
CODINGS = {
    "gzip": {400, 501},
    "gzip, chunked": {501},
    "chunked, gzip": {400, 501},
    "identity": {400, 501},
    "xchunked": {400, 501},
}


@pytest.mark.parametrize("coding", CODINGS)
def test_unknown_transfer_codings(worker: str, wire: Wire, coding: str) -> None:
    wire.send(
        f"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n".encode()
        + chunked(RED)
    )
    reply = wire.reply()
    if worker == "gthread" and coding == "gzip, chunked":
        assert reply.status == 200
        return
    assert reply.status in CODINGS[coding]
    assert_problem(reply, reply.status, None)
    assert wire.ended()


def test_an_upgrade_is_passed_over(wire: Wire) -> None:
    """As ``curl --http2`` offers it: the service knows no other protocol, and goes on with this."""
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABk",
    }
    wire.send(raw_request("/health/live", method="GET", headers=offer) + LIVE)
    assert wire.reply().json() == {"status": "live"}
    assert wire.reply().json() == {"status": "live"}
    assert top_label(wire.send(raw_request("/predict", RED, headers=offer))) == "red"
    assert wire.send(LIVE).reply().status == 200


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_an_upgrade_smuggles_nothing(server: Server, form: str) -> None:
    """The body of a request that offers another protocol is a body, whatever it looks like."""
    smuggled = raw_request("/smuggled", method="GET")
    body = chunked(smuggled) if form == "chunked" else smuggled
    framing = "Transfer-Encoding: chunked" if form == "chunked" else f"Content-Length: {len(body)}"
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{framing}"
    for cut in (0, 10, len(body)):
        with server.wire() as wire:
            wire.send(head.encode() + b"\r\n\r\n" + body[:cut])
            time.sleep(0.02)
            wire.send(body[cut:] + LIVE)
            assert_problem(wire.reply(), 415, "unsupported-format")
            assert wire.reply().json() == {"status": "live"}


def test_no_tunnel_is_opened(wire: Wire) -> None:
    """What follows CONNECT would be another protocol's, or a request: it is neither."""
    reply = wire.send(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").reply()
    assert reply.status in (400, 404, 405, 501)
    assert_problem(reply, reply.status, None)


def test_what_follows_the_last_request_is_not_answered(wire: Wire) -> None:
    """Nor does it spoil the answer before it."""
    head = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert wire.send(head + LIVE).reply().json() == {"status": "live"}
    assert wire.ended()


def test_an_unknown_expectation(wire: Wire) -> None:
    wire.send(raw_request("/predict", RED, headers={"Expect": "a-miracle"}))
    assert_problem(wire.reply(), 417, None)
    assert wire.ended()


MALFORMED_CHUNKS = {
    "size": b"zz\r\nabc\r\n0\r\n\r\n",
    "negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED_CHUNKS)
def test_malformed_chunks(wire: Wire, name: str) -> None:
    wire.send(chunked_head() + MALFORMED_CHUNKS[name] + LIVE)
    assert_problem(wire.reply(), 400, "bad-body")
    assert wire.ended()


def test_chunk_extensions_and_trailers(wire: Wire) -> None:
    body = b"%x;name=value\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(RED), RED)
    assert top_label(wire.send(chunked_head() + body)) == "red"
    assert wire.send(LIVE).reply().status == 200


def test_a_head_beyond_all_bounds(worker: str, wire: Wire) -> None:
    """Each field within its limit, all of them together not: gunicorn's worker does not mind."""
    with suppress(OSError):  # cut off while still sending
        wire.send(b"GET /health/live HTTP/1.1\r\n" + _MUCH_HEAD + b"\r\n")
    reply = wire.reply()
    if worker == "asyncio":
        assert_problem(reply, 431, None)
    else:
        assert reply.status == 200


def test_nothing_of_all_this_is_an_error_of_ours(server: Server) -> None:
    """The last of this module's tests on malformed bytes: no 500, no traceback."""
    for data, _ in MALFORMED.values():
        with server.wire() as wire:
            wire.send(data + LIVE)
            wire.reply()
    assert not server.tracebacks
    assert not [
        labels
        for (_, labels), value in server.metrics().items()
        if ("status", "500") in labels and value
    ]


# ---- bodies that do not come ---------------------------------------------------------------------


def test_endless_chunks_are_cut_off(wire: Wire) -> None:
    wire.send(chunked_head())
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    sent = 0
    while not select.select([wire.sock], [], [], 0)[0]:
        wire.send(block)
        sent += len(block)
        assert sent < 200_000_000, "still not refused"
    assert sent > 15_000_000
    assert_problem(wire.reply(), 413, "body-too-large")


def test_expect_100_continue(wire: Wire) -> None:
    head, _, _ = raw_request("/predict", RED, headers={"Expect": "100-continue"}).partition(RED)
    assert wire.send(head).reply().status == 100
    assert top_label(wire.send(RED)) == "red"


def test_expect_100_continue_in_chunks(wire: Wire) -> None:
    head = chunked_head().replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert wire.send(head).reply().status == 100
    for byte in chunked(RED[:3], RED[3:]):
        wire.send(bytes([byte]))
    assert top_label(wire) == "red"  # and not another 100


def test_expect_and_no_waiting(wire: Wire) -> None:
    """A client that sends the body at once may get a 100 or none, and then the answer."""
    wire.send(raw_request("/predict", RED, headers={"Expect": "100-continue"}) + LIVE)
    reply = wire.reply()
    if reply.status == 100:
        reply = wire.reply()
    assert reply.json()["predictions"][0]["label"] == "red"
    assert wire.reply().json() == {"status": "live"}


@pytest.mark.parametrize(
    ("fields", "status", "slug"),
    [
        ({"Content-Length": "300000000"}, 413, "body-too-large"),
        ({"Content-Type": "text/plain", "Content-Length": "5"}, 415, "wrong-media-type"),
    ],
)
def test_refused_without_100(
    worker: str, server: Server, fields: dict[str, str], status: int, slug: str
) -> None:
    """gunicorn's own worker says 100 before the application is asked; it says so in its docs."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{lines}\r\n"
    with server.wire() as wire:
        reply = wire.send(head.encode()).reply()
        if worker == "gthread" and reply.status == 100:
            reply = wire.reply()
        assert_problem(reply, status, slug)


@pytest.mark.parametrize("declared", [{}, {"Content-Type": "text/plain"}])
def test_a_refusal_reaches_a_client_that_sends_all_first(
    server: Server, declared: dict[str, str]
) -> None:
    """http.client sends the whole body before it looks: it must find the answer, not a reset."""
    for _ in range(3):
        reply = server.post("/predict", bytes(25_000_000), declared)
        if declared:
            assert_problem(reply, 415, "wrong-media-type")
        else:
            assert_problem(reply, 413, "body-too-large")


def test_a_refusal_is_still_there_a_while_later(wire: Wire) -> None:
    body = bytes(25_000_000)
    wire.send(raw_request("/predict", body))
    time.sleep(0.3)  # that while is what is tested
    assert_problem(wire.reply(), 413, "body-too-large")


# ---- clients that go away ------------------------------------------------------------------------


def incomplete(server: Server) -> float:
    """Predictions so far whose body did not come whole."""
    metrics = server.metrics()
    key = "labelserve_requests_total"
    return sum(
        metrics.get((key, frozenset({("route", "/predict"), ("status", status)})), 0)
        for status in ("400", "499")
    )


def test_a_body_that_ends_early(worker: str, server: Server) -> None:
    before = incomplete(server)
    for half in (False, True):
        with server.wire() as wire:
            wire.send(raw_request("/predict", RED)[:-5])
            if half:
                wire.sock.shutdown(socket.SHUT_WR)
                try:  # a client that still listens is told, or sees the end
                    assert_problem(wire.reply(), 400, "bad-body")
                except ServerError:
                    assert worker == "asyncio"
    assert eventually(lambda: incomplete(server) == before + 2)
    assert not server.tracebacks


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/model", "/nothing"])
def test_a_probe_that_half_closes_is_answered(wire: Wire, path: str) -> None:
    """As ``nc -N`` does, and some health checkers."""
    wire.send(raw_request(path, method="GET"))
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.reply().status == (404 if path == "/nothing" else 200)
    assert wire.ended()


def test_heads_that_are_never_finished(server: Server) -> None:
    before = server.descriptors_at_rest()
    for length in range(1, len(LIVE) - 1):
        with server.wire() as wire:
            wire.send(LIVE[:length])
    assert eventually(lambda: server.descriptors() <= before)
    assert server.get("/health/live").status == 200
    assert not server.tracebacks


def test_resets(server: Server) -> None:
    """Connections that end with RST, at every stage."""
    for data in (
        b"",
        LIVE[:5],
        LIVE,
        raw_request("/predict", RED)[:-5],
        raw_request("/predict", RED),
    ):
        for _ in range(5):
            with server.wire() as wire:
                wire.send(data)
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.post("/predict", RED).status == 200
    assert not server.tracebacks


def test_a_chunk_size_beyond_64_bits_smuggles_nothing(tiny_model: Path) -> None:
    """Read modulo 2**64, it would end the body early, and what follows would be a request.

    In the loop alone: gunicorn's own workers read chunks in gunicorn's own way.
    """
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with start_server(tiny_model, body_timeout=0.5) as server, server.wire() as wire:
        wire.send(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"10000000000000003\r\nabc\r\n0\r\n\r\n" + smuggled
        )
        reply = wire.reply()
        # The size is malformed, or larger than any body may be, or the rest of it does not come.
        slug = {400: "bad-body", 408: "body-timeout", 413: "body-too-large"}
        assert_problem(reply, reply.status, slug[reply.status])
        assert wire.ended()
        assert not server.requests(route="unmatched")
        assert server.post("/predict", RED).status == 200
