"""What OpenTelemetry is given: an exporter that counts, ids, headers, and a way to the log."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service.runtime.records import AllHeaders, Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

# What OpenTelemetry says again and again, it says this often.
_SAID_SECONDS = 60.0


class CountingExporter:
    """An exporter that counts: spans that it has taken, is done with, and could not deliver."""

    def __init__(self, exporter: "SpanExporter", count_dropped: Callable[[int], None]) -> None:
        self._exporter = exporter
        self._count_dropped = count_dropped
        self.taken = self.done = 0

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        """Export spans; from the processor's thread."""
        self.taken += len(spans)
        delivered = False
        try:
            result = self._exporter.export(spans)
            delivered = result is type(result).SUCCESS
            return result
        finally:
            self.done += len(spans)
            if not delivered:
                self._count_dropped(len(spans))

    def shutdown(self) -> None:
        """Nothing more is exported."""
        self._exporter.shutdown()


class Ids:
    """Ids for spans. A server span has those that the log's lines of its request have already."""

    def give(self, trace: Trace) -> None:
        """For the server span that is made next."""
        self._trace_id, self._span_id = trace.trace_id, trace.span_id

    def generate_trace_id(self) -> int:
        """Of a server span without a parent."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """Of a server span, or of another one."""
        span_id, self._span_id = self._span_id, 0
        return span_id or new_id(64)

    def is_trace_id_random(self) -> bool:
        """A proxy in front may have made it in any way."""
        return False


class HeaderGetter:
    """How OpenTelemetry's propagators read a request's headers."""

    def get(self, carrier: AllHeaders, key: str) -> list[str] | None:
        """All values of a name, None of a missing one."""
        return carrier.getlist(key) or None

    def keys(self, carrier: AllHeaders) -> list[str]:
        """All names."""
        return [name for name, _ in carrier]


class _NowAndThen(logging.Handler):
    """Passes on what OpenTelemetry logs, each message once a while: a collector may be down."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int], float] = {}  # by where it comes from

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        place = record.pathname, record.lineno
        if now - self._said.get(place, -_SAID_SECONDS) >= _SAID_SECONDS:
            self._said[place] = now
            logging.root.handle(record)


def say_now_and_then() -> None:
    """Let OpenTelemetry log in the service's way, and seldom."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_NowAndThen()]
    logger.propagate = False
    for headers in ("opentelemetry.baggage", "opentelemetry.trace"):
        # They warn of headers that a client has written wrongly, and repeat them.
        logging.getLogger(headers).setLevel(logging.ERROR)


def new_id(bits: int) -> int:
    """A random one; 0 is none."""
    return secrets.randbits(bits) or 1
