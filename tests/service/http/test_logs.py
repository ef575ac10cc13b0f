"""The log: one JSON object a line, whatever a client sends; request ids; nothing private."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.images import encode
from tests.server import WORKERS, Server, eventually, multipart, raw_request, start_server

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
MADE = re.compile(r"[0-9a-f]{32}")
TRACE = "0af7651916cd43dd8448eb211c80319c"

FORGED = '{"level":"critical","message":"forged"}'


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"X-Request-ID": "abc-DEF_1.2"}, "abc-DEF_1.2"),
        ({"X-Request-ID": "a" * 64}, "a" * 64),
        ({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, TRACE),
        (
            {"X-Request-ID": "mine", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            "mine",
        ),
        (
            {"X-Request-ID": "not plain!", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            TRACE,
        ),
        ({}, None),
        ({"X-Request-ID": ""}, None),
        ({"X-Request-ID": "a" * 65}, None),
        ({"X-Request-ID": FORGED}, None),
        ({"X-Request-ID": "a b"}, None),
        ({"X-Request-ID": "ü"}, None),
        ({"X-Request-ID": "a\tb"}, None),
        ({"traceparent": f"00-{TRACE.upper()}-b7ad6b7169203331-01"}, None),
        ({"traceparent": f"00-{TRACE}"}, None),
    ],
)
def test_request_ids(server: Server, headers: dict[str, str], kept: str | None) -> None:
    for path, body in (("/predict", RED), ("/predict", b"bad"), ("/nothing", b"")):
        reply = server.post(path, body, headers)
        found = reply.headers["X-Request-ID"]
        assert found == kept if kept else MADE.fullmatch(found)
        if kept is None:
            assert server.requests(request_id=found)


def test_made_ids_differ(server: Server) -> None:
    ids = {server.get("/model").headers["X-Request-ID"] for _ in range(50)}
    assert len(ids) == 50


def test_nothing_that_a_client_sends_forges_a_line(server: Server) -> None:
    evil = f"x\\n{FORGED}\\r\\n"
    escaped = "%0A" + FORGED.replace('"', "%22") + "%0D%0A"
    server.get(f"/{escaped}")
    server.get(f"/model?{escaped}")
    server.post(f"/predict?top_k={escaped}", RED)
    server.post("/predict", RED, {"Content-Type": f"text/plain; {FORGED}"})
    server.post("/predict", RED, {"User-Agent": evil, "X-Forwarded-For": evil, "Referer": evil})
    body, headers = multipart((FORGED.replace('"', "'"), f"a\n{FORGED}".replace('"', "'"), b"x"))
    server.post("/predict/batch", body, headers)
    for data in (
        f"GET /{FORGED.replace(' ', '')} HTTP/1.1\r\n\r\n".encode(),
        f"{FORGED} / HTTP/1.1\r\n\r\n".encode(),
        b"FORGED\x1b[31m / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \u2028\u0085\r\n\r\n".encode(),
        raw_request("/x", method="FORGED"),
    ):
        with server.wire() as wire:
            wire.send(data)
            wire.reply()
    server.requests()  # which waits for the last line
    text = server.output.read_bytes()
    lines = text.split(b"\n")
    assert lines.pop() == b""
    # Also for readers who know of more ends of line than "\n".
    assert len(text.decode().splitlines()) == len(lines) > 10
    for line in lines:
        record = json.loads(line)
        assert isinstance(record, dict)
        assert record.get("message") != "forged"
        assert record["level"] != "critical"
        assert b"\x1b" not in line
    assert server.errors.read_bytes() == b""


def test_what_a_line_says(server: Server) -> None:
    server.post("/predict", RED, {"X-Request-ID": "say-1"})
    (line,) = server.requests(request_id="say-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["level"] == "info"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/predict", 200)
    assert line["bytes"] == len(RED)
    assert line["label"] == "red"
    assert 0.5 < line["probability"] <= 1
    phases = [line[f"{phase}_ms"] for phase in ("wait", "decode", "inference")]
    assert all(milliseconds >= 0 for milliseconds in phases)
    assert sum(phases) <= line["ms"] + 1

    server.post("/predict", b"bad", {"X-Request-ID": "say-2"})
    (line,) = server.requests(request_id="say-2")
    assert (line["status"], line["problem"]) == (415, "unsupported-format")
    assert "label" not in line

    server.get("/nothing/here", {"X-Request-ID": "say-3"})
    (line,) = server.requests(request_id="say-3")
    assert (line["route"], line["status"]) == ("unmatched", 404)


def test_every_request_has_one_line(server: Server) -> None:
    for number in range(20):
        server.post("/predict", RED, {"X-Request-ID": f"one-{number}"})
    for number in range(20):
        assert len(server.requests(request_id=f"one-{number}")) == 1


def test_probes_and_scrapes_are_left_out(server: Server) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        reply = server.get(path, {"X-Request-ID": "probe"})
        assert reply.headers["X-Request-ID"] == "probe"
    server.get("/model", {"X-Request-ID": "after-the-probes"})
    assert server.requests(request_id="after-the-probes")
    assert not server.requests(request_id="probe")


@pytest.mark.parametrize("worker", WORKERS)
def test_nothing_private(tiny_model: Path, worker: str) -> None:
    """Neither keys, nor names, nor queries, nor images."""
    settings = {"api_keys": "right-key-right-key", "log_level": "debug"}
    with start_server(tiny_model, worker=worker, **settings) as server:
        body, form = multipart(("private-field", "private-name.png", b"private bytes"))
        for headers in (
            {"Authorization": "Bearer right-key-right-key"},
            {"X-API-Key": "right-key-right-key"},
            {"X-API-Key": "wrong-key-wrong-key"},
            {"Authorization": "Bearer wrong-key-wrong-key", "Cookie": "private=1"},
        ):
            server.post("/predict?private=1", body, {**headers, **form})
            server.post("/predict/batch?private=1", body, {**headers, **form})
        assert len(server.requests()) == 8
        text = server.output.read_text("utf-8") + server.errors.read_text("utf-8")
        assert "key-wrong" not in text
        assert "key-right" not in text
        assert "private" not in text


@pytest.mark.parametrize("worker", WORKERS)
def test_plain_lines_cannot_be_forged_either(tiny_model: Path, worker: str) -> None:
    with start_server(tiny_model, worker=worker, log_format="plain") as server:
        assert server.post("/predict", RED).status == 200
        server.get("/%0AERROR%20forged")
        with server.wire() as wire:
            wire.send(b"GET / HTTP/1.1\r\nX\x0bERROR forged: 1\r\n\r\n")
            wire.reply()
        assert eventually(lambda: "status-404" in server.output.read_text("utf-8"))
        text = server.output.read_bytes().decode()
        assert "request_id=" in text
        assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in text.splitlines())


def test_levels(tiny_model: Path) -> None:
    """At ``warning`` the requests are silent."""
    with start_server(tiny_model, log_level="warning") as server:
        assert server.post("/predict", RED).status == 200
        assert server.log == []
