"""A collector of traces for tests: it takes OTLP over HTTP, and decodes what comes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

# Of OTLP's enumerations.
INTERNAL, SERVER = 1, 2
UNSET, ERROR = 0, 2


@dataclass(frozen=True)
class Span:
    """A span as the collector got it; times in ns since the epoch, ids as W3C writes them."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    kind: int
    begun: int
    ended: int
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """``status``: what exports are answered with; ``paths``: where they went.

    ``spans``: those that came, and were taken; ``refused``: the others.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.paths: set[str] = set()
        self.spans: list[Span] = []
        self.refused: list[Span] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def trace(self, trace_id: str) -> list[Span]:
        """All spans of a trace, by when they began, and the one around them first."""
        found = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: (span.begun, -span.ended))


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.add(self.path)
        status = self.server.status
        into = self.server.spans if status == 200 else self.server.refused
        into += _spans(ExportTraceServiceRequest.FromString(data))
        self.send_response(status)
        body = ExportTraceServiceResponse().SerializeToString()
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        of_resource = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    _values(span.attributes),
                    of_resource,
                )


def _values(attributes: "Iterator[KeyValue] | Any") -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that answers until the end."""
    collector = Collector()
    threading.Thread(target=collector.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield collector
    finally:
        collector.shutdown()
        collector.server_close()
