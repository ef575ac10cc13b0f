"""Traces as a collector gets them: spans, whose they are, what is lost and what never is."""

import io
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.collector import ERROR, INTERNAL, SERVER, UNSET, Collector, Span, collecting
from tests.images import encode, photograph
from tests.server import (
    START_SECONDS,
    WORKERS,
    Server,
    eventually,
    free_port,
    multipart,
    start_server,
)

SMALL = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
LARGE = encode(photograph(1, 640, 427), "JPEG")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"

QUICKLY = {"OTEL_BSP_SCHEDULE_DELAY": 50}


@dataclass(frozen=True)
class Traced:
    """A server, and the collector that it exports to."""

    server: Server
    collector: Collector

    def spans_of(self, trace_id: str, phase: str = "") -> list[Span]:
        """A trace's spans, once the server's and those of a phase are there."""

        def complete() -> bool:
            return {phase, ""} <= {
                "" if span.kind == SERVER else span.name for span in self.collector.trace(trace_id)
            }

        assert eventually(complete), self.collector.trace(trace_id)
        return self.collector.trace(trace_id)


@pytest.fixture(scope="module", params=WORKERS)
def traced(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Traced]:
    with collecting() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, **QUICKLY}
        with start_server(tiny_model, worker=request.param, **environ) as server:
            yield Traced(server, collector)


def assert_nested(spans: list[Span]) -> None:
    server, *phases = spans
    assert server.kind == SERVER
    for phase in phases:
        assert phase.kind == INTERNAL
        assert phase.parent_id == server.span_id
        assert server.begun <= phase.begun <= phase.ended <= server.ended


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
def test_a_prediction_has_a_span_with_its_phases(traced: Traced, image: bytes) -> None:
    begun = time.time_ns()
    reply = traced.server.post("/predict", image)
    ended = time.time_ns()
    spans = traced.spans_of(reply.headers["X-Request-ID"], "inference")
    server, *phases = spans
    assert_nested(spans)
    assert {phase.name for phase in phases} == {"decode", "wait", "inference"}
    assert begun <= server.begun <= server.ended
    assert server.begun < ended
    assert (server.name, server.parent_id, server.status) == ("POST /predict", "", UNSET)
    with Image.open(io.BytesIO(image)) as opened:
        pixels = opened.width * opened.height
    card = traced.server.get("/model").json()
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.path": "/predict",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": traced.server.port,
        "labelserve.request_id": reply.headers["X-Request-ID"],
        "labelserve.model.name": card["name"],
        "labelserve.model.version": 1,
        "labelserve.images": 1,
        "labelserve.image.bytes": len(image),
        "labelserve.image.pixels": pixels,
    }
    assert server.resource["service.name"] == "labelserve"
    assert traced.collector.paths == {"/v1/traces"}


def test_the_phases_of_the_log_are_those_of_the_spans(traced: Traced) -> None:
    reply = traced.server.post("/predict", LARGE)
    server, *phases = traced.spans_of(reply.headers["X-Request-ID"], "inference")
    (line,) = traced.server.requests(request_id=reply.headers["X-Request-ID"])
    assert line["ms"] == pytest.approx((server.ended - server.begun) / 1e6, abs=0.01)
    for name in ("decode", "wait", "inference"):
        spent = sum(phase.ended - phase.begun for phase in phases if phase.name == name) / 1e6
        assert line[f"{name}_ms"] == pytest.approx(spent, abs=0.01)
    assert (line["trace_id"], line["span_id"]) == (server.trace_id, server.span_id)


def test_a_clients_trace_goes_on(traced: Traced) -> None:
    trace = f"{1:032x}"
    headers = {
        "traceparent": f"00-{trace}-{PARENT}-01",
        "tracestate": "congo=t61rcWkgMzE",
        "X-Request-ID": "mine",
        "X-Forwarded-Proto": "https",
        "Host": "labels.example",
    }
    traced.server.post("/predict?top_k=1", SMALL, headers)
    spans = traced.spans_of(trace, "inference")
    assert_nested(spans)
    server = spans[0]
    assert (server.parent_id, server.state) == (PARENT, "congo=t61rcWkgMzE")
    found = {name: server.attributes[name] for name in ("url.scheme", "server.address")}
    assert found == {"url.scheme": "https", "server.address": "labels.example"}
    (line,) = traced.server.requests(request_id="mine")
    assert (line["trace_id"], line["span_id"]) == (trace, server.span_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "mine.2"},
        {"traceparent": f"00-{'0' * 32}-{PARENT}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-{PARENT}-01"},
        {"traceparent": "x" * 5000, "tracestate": "=,=,ü"},
        {"X-Request-ID": "A" * 32},
    ],
)
def test_a_trace_of_its_own(traced: Traced, headers: dict[str, str]) -> None:
    """Where the client tells of none, or of one that cannot be."""
    reply = traced.server.post("/predict", SMALL, headers)
    lines = traced.server.requests(request_id=reply.headers["X-Request-ID"])
    server, *_ = traced.spans_of(lines[-1]["trace_id"], "inference")
    assert server.parent_id == ""
    assert int(server.trace_id, 16) > 0 < int(server.span_id, 16)


def test_a_client_decides_whether_its_trace_is_sampled(traced: Traced) -> None:
    trace = f"{2:032x}"
    traced.server.post("/predict", SMALL, {"traceparent": f"00-{trace}-{PARENT}-00"})
    later = traced.server.post("/predict", SMALL)
    assert traced.spans_of(later.headers["X-Request-ID"], "inference")
    assert not traced.collector.trace(trace)
    (line,) = traced.server.requests(request_id=trace)
    assert "trace_id" not in line


def test_several_images_are_in_one_trace(traced: Traced) -> None:
    body, headers = multipart(*[("image", f"{i}.jpg", LARGE) for i in range(3)])
    reply = traced.server.post("/predict/batch", body, headers)
    assert reply.status == 200
    spans = traced.spans_of(reply.headers["X-Request-ID"], "inference")
    assert_nested(spans)
    server, *phases = spans
    assert sum(phase.name == "decode" for phase in phases) == 3
    found = {name: server.attributes[f"labelserve.{name}"] for name in ("images", "image.bytes")}
    assert found == {"images": 3, "image.bytes": 3 * len(LARGE)}


def test_a_background_task_has_its_phase(traced: Traced) -> None:
    reply = traced.server.post("/explain", SMALL)
    assert reply.status == 200
    spans = traced.spans_of(reply.headers["X-Request-ID"], "background")
    assert_nested(spans)
    assert {"decode", "background"} <= {span.name for span in spans}


@pytest.mark.parametrize(
    ("asked", "name", "status", "problem"),
    [
        ("POST /predict", "POST /predict", 415, "unsupported-format"),
        ("POST /nothing/there", "POST", 404, "status-404"),
        ("PROPFIND /predict", "HTTP", 405, "status-405"),
    ],
)
def test_a_refusal_is_no_error_of_the_server(
    traced: Traced, asked: str, name: str, status: int, problem: str
) -> None:
    method, path = asked.split()
    reply = traced.server.ask(method, path, b"bad")
    assert reply.status == status
    server, *_ = traced.spans_of(reply.headers["X-Request-ID"])
    assert (server.name, server.status) == (name, UNSET)
    assert server.attributes["http.response.status_code"] == status
    assert server.attributes["labelserve.problem"] == problem
    assert "error.type" not in server.attributes
    known = "_OTHER" if method == "PROPFIND" else method
    assert server.attributes["http.request.method"] == known


def test_probes_and_scrapes_are_not_traced(traced: Traced) -> None:
    probed = [
        traced.server.get(path).headers["X-Request-ID"]
        for path in ("/health", "/health/live", "/health/ready", "/metrics")
    ]
    later = traced.server.get("/model").headers["X-Request-ID"]
    assert traced.spans_of(later)
    assert not any(traced.collector.trace(trace) for trace in probed)
    assert traced.server.metric("labelserve_spans_dropped_total") == 0


# ---- servers of their own ------------------------------------------------------------------------


@pytest.mark.parametrize("worker", WORKERS)
def test_an_error_of_the_server(tiny_model: Path, worker: str) -> None:
    """A request that is not answered in time; its thread may go on, its spans end with it."""
    with collecting() as collector, ExitStack() as stack:
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.endpoint}/mine", **QUICKLY}
        server = stack.enter_context(
            start_server(tiny_model, worker=worker, request_timeout=0.05, **environ)
        )
        slow = encode(Image.new("RGB", (3500, 3500), (200, 40, 90)), "PNG", compress_level=9)
        reply = server.post("/predict", slow)
        assert reply.status == 504
        traced = Traced(server, collector)
        spans = traced.spans_of(reply.headers["X-Request-ID"])
        assert_nested(spans)
        assert spans[0].status == ERROR
        assert spans[0].attributes["error.type"] == "deadline-exceeded"
        assert collector.paths == {"/mine"}


@pytest.mark.parametrize("worker", WORKERS)
def test_nothing_is_lost_at_the_stop_and_a_replaced_worker_exports(
    tiny_model: Path, worker: str
) -> None:
    """The exporter would wait for ten minutes; each of two workers has one of its own."""
    with collecting() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process",
            "OTEL_BSP_SCHEDULE_DELAY": 600_000,
            "OTEL_SERVICE_NAME": "pets",
        }
        with start_server(tiny_model, worker=worker, workers=2, **environ) as server:
            killed, kept = server.workers
            _kill(killed, server)
            replaced = set(server.workers)
            answered: set[str] = set()
            deadline = time.monotonic() + 30
            while len(answered) < 60 and time.monotonic() < deadline:
                answered.add(server.post("/predict", SMALL).headers["X-Request-ID"])
            assert server.stop() == 0
        servers = [span for span in collector.spans if span.name == "POST /predict"]
        assert {span.trace_id for span in servers} == answered
        assert {span.resource["service.name"] for span in servers} == {"pets"}
        pids = {span.resource["process.pid"] for span in servers}
        assert kept in replaced
        assert pids <= replaced
        assert pids - {kept}, "the new worker has exported nothing"


def test_a_collector_that_is_down_costs_nothing(tiny_model: Path) -> None:
    """What waits is bounded, what is dropped is counted, and the log has a line or two of it."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_MAX_QUEUE_SIZE": 64,
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 16,
        "OTEL_EXPORTER_OTLP_TIMEOUT": 1,
        **QUICKLY,
    }
    with start_server(tiny_model, **environ) as server:
        for _ in range(100):
            assert server.post("/predict", SMALL).status == 200
        assert eventually(lambda: server.metric("labelserve_spans_dropped_total") > 100)
        said = [line for line in server.records if line["logger"].startswith("opentelemetry")]
        assert 0 < len(said) == len({line["message"][:20] for line in said})
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 10
        assert not server.tracebacks


def test_a_collector_that_refuses_is_counted(tiny_model: Path) -> None:
    with collecting() as collector:
        collector.status = 400
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, **QUICKLY}
        with start_server(tiny_model, worker="gthread", **environ) as server:
            server.post("/predict", SMALL)
            assert eventually(lambda: server.metric("labelserve_spans_dropped_total") > 0)
            collector.status = 200
            reply = server.post("/predict", SMALL)
            Traced(server, collector).spans_of(reply.headers["X-Request-ID"], "inference")
            assert server.metric("labelserve_spans_dropped_total") == len(collector.refused)


def test_a_share_is_sampled(tiny_model: Path) -> None:
    """As the ids decide, so that all services of a trace decide alike; a client's word counts."""
    with collecting() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": 0.25,
            **QUICKLY,
        }
        with start_server(tiny_model, **environ) as server:
            ids = [server.get("/model").headers["X-Request-ID"] for _ in range(200)]
            server.get("/model", {"traceparent": SAMPLED})
            Traced(server, collector).spans_of(TRACE)
            sampled = {one for one in ids if int(one[16:], 16) < 2**62}
            assert 10 < len(sampled) < 100
            assert eventually(
                lambda: {span.trace_id for span in collector.spans} == {*sampled, TRACE}
            )
            logged = {line["trace_id"] for line in server.requests() if "trace_id" in line}
            assert logged == {*sampled, TRACE}


def _kill(pid: int, server: Server) -> None:
    """End a worker at once, and wait for another one to be ready in its place."""
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: pid not in server.workers and len(server.workers) == 2)
    assert eventually(server.ready, START_SECONDS)
