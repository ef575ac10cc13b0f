"""Traces by OpenTelemetry: spans of answered requests, exported behind everything else.

OpenTelemetry's own variables say where to and how many. Without an endpoint nothing of it is
imported and no thread is started.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from service.runtime.logs import is_quiet
from service.runtime.open_telemetry import (
    CountingExporter,
    HeaderGetter,
    Ids,
    new_id,
    say_now_and_then,
)
from service.runtime.records import AllHeaders, RequestRecord, Trace
from service.runtime.spans import server_attributes, server_name

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator

_LOG = logging.getLogger("labelserve.traces")

# A worker that ends waits this long for its last spans to be taken.
_STOP_SECONDS = 2.0

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")

_QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
_QUEUE_SPANS = 2048  # by the specification


class NoTraces(Exception):
    """The variables ask for traces that cannot be had; the message says why, and what to do."""


def traces_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the variables ask for traces: they do where they name an endpoint.

    Raises:
        NoTraces: they ask for what cannot be done.
    """
    endpoint = _first_set(environ, _ENDPOINTS)
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if endpoint is None or disabled or exporter == "none":
        return False
    if exporter != "otlp":
        raise NoTraces(f"OTEL_TRACES_EXPORTER={exporter}: give otlp or none")
    if not endpoint[1].lower().startswith(("http://", "https://")):
        raise NoTraces("{}={}: give a URL, such as http://collector:4318".format(*endpoint))
    protocol = _first_set(environ, _PROTOCOLS)
    if protocol is not None and protocol[1] != _PROTOCOL:
        raise NoTraces("{}={}: give {}".format(*protocol, _PROTOCOL))
    if not _is_installed():
        raise NoTraces(
            f"{endpoint[0]} asks for traces, and OpenTelemetry is not installed: install"
            " requirements/otel.txt, or build the image with --build-arg EXTRAS=otel"
        )
    return True


class Traces:
    """The traces of one worker, made after the fork: its exporter has a thread.

    Args:
        count_dropped: told of spans that were dropped; from any thread.

    Raises:
        NoTraces: OpenTelemetry does not run, or a variable has a value that it cannot use.
    """

    def __init__(self, count_dropped: Callable[[int], None]) -> None:
        try:
            self._open(count_dropped)
        except Exception as error:  # whatever it finds in its variables, or does not find
            raise NoTraces(f"OpenTelemetry, by its variables OTEL_…: {error}") from error

    def _open(self, count_dropped: Callable[[int], None]) -> None:
        say_now_and_then()  # first: what follows may have something to say
        from opentelemetry import propagate, trace
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import Decision

        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "labelserve"}))
        self._room = _queue_spans(os.environ)
        self._made = 0
        self._count_dropped = count_dropped
        self._ids = Ids()
        self._exporter = CountingExporter(OTLPSpanExporter(), count_dropped)
        self._provider = TracerProvider(
            resource=resource,
            id_generator=cast("IdGenerator", self._ids),
            shutdown_on_exit=False,
        )
        exporter = cast("SpanExporter", self._exporter)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, self._room))
        self._tracer = self._provider.get_tracer("labelserve")
        self._propagator = propagate.get_global_textmap()
        self._fields = tuple(self._propagator.fields)
        self._sampled = Decision.RECORD_AND_SAMPLE
        self._nothing = Context()
        self._current_span = trace.get_current_span

    def begin(self, request_id: str, path: str, headers: AllHeaders) -> Trace | None:
        """The trace of a request that has just come, if it is among the sampled ones.

        It is the one that the client's headers tell of. A trace that begins here is called as its
        request, if that is called as a trace can be: the ids that this service gives are.
        """
        parent, trace_id = self._nothing, 0
        if any(headers.get(name, "") for name in self._fields):
            parent = self._propagator.extract(headers, parent, HeaderGetter())  # type: ignore[arg-type]
            trace_id = self._current_span(parent).get_span_context().trace_id
        trace_id = trace_id or _as_trace_id(request_id)
        decision = self._provider.sampler.should_sample(parent, trace_id, path).decision
        if decision is not self._sampled:
            return None
        return Trace(trace_id, new_id(64), parent, path, headers)

    def end(self, records: Sequence[RequestRecord]) -> None:
        """Make the spans of answered requests; one call at a time."""
        ahead = time.time_ns() - time.monotonic_ns()
        for record in records:
            if record.trace is not None and not is_quiet(record):
                self._end(record, record.trace, ahead)

    def _end(self, record: RequestRecord, trace: Trace, ahead: int) -> None:
        """Queue a request's spans, all or none; ``ahead``: of the monotonic clock, in ns."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        # A thread may still work on a request whose client was told that its time is over.
        phases = [phase for phase in trace.phases if phase.ended <= record.ended]
        spans = 1 + len(phases)
        if self._made - self._exporter.taken + spans > self._room:
            self._count_dropped(spans)
            return
        self._made += spans
        self._ids.give(trace)
        server = self._tracer.start_span(
            server_name(record),
            trace.parent,
            SpanKind.SERVER,
            server_attributes(record, trace),
            start_time=ahead + _nanoseconds(record.ended - record.seconds),
        )
        inside = set_span_in_context(server, trace.parent)
        for phase in phases:
            begun, ended = ahead + _nanoseconds(phase.begun), ahead + _nanoseconds(phase.ended)
            self._tracer.start_span(phase.name, inside, start_time=begun).end(ended)
        if record.status >= 500:
            server.set_status(Status(StatusCode.ERROR))
        server.end(ahead + _nanoseconds(record.ended))

    def stop(self) -> None:
        """Have the last spans exported, within a bound; nothing may end after this."""
        stopping = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        stopping.start()
        stopping.join(_STOP_SECONDS)
        lost = self._made - self._exporter.done
        if lost:
            self._count_dropped(lost)
            fields = {"spans": lost}
            _LOG.warning("the last spans were not exported in time", extra={"fields": fields})


def _first_set(environ: Mapping[str, str], names: Sequence[str]) -> tuple[str, str] | None:
    """The first variable that is neither missing nor empty, and its value."""
    found: Iterator[tuple[str, str]] = ((name, environ.get(name, "").strip()) for name in names)
    return next((one for one in found if one[1]), None)


def _queue_spans(environ: Mapping[str, str]) -> int:
    """How many spans may wait."""
    text = environ.get(_QUEUE, "").strip() or str(_QUEUE_SPANS)
    if not text.isdecimal():
        raise NoTraces(f"{_QUEUE}={text}: give a whole number")
    return int(text)


def _is_installed() -> bool:
    """Looked for without importing it."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _as_trace_id(request_id: str) -> int:
    """The same number, where it is one of 128 bits in hexadecimal; else a new one."""
    found = _TRACE_ID.fullmatch(request_id)
    return (int(request_id, 16) if found else 0) or new_id(128)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
