"""One JSON object a line on standard output, or plain lines for a terminal."""

import logging
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any, TextIO

import msgspec

from service.runtime.records import RequestRecord
from service.settings import Settings

_REQUESTS = logging.getLogger("labelserve.requests")
_PHASES = {"wait": "wait_ms", "decode": "decode_ms", "inference": "inference_ms"}
_QUIET_ROUTES = ("/health", "/health/live", "/health/ready", "/metrics")


# The lines that a thread holds back; see ``written_together``.
_HELD = threading.local()


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes a line at once, or with others of its thread."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write or hold back a record's line."""
        self.write_line(self.format(record))

    def write_line(self, line: str) -> None:
        """Write or hold back a line."""
        held: list[str] | None = getattr(_HELD, "lines", None)
        if held is None:
            self.write(line + self.terminator)
        else:
            _HELD.handler = self
            held.append(line + self.terminator)

    def write(self, text: str) -> None:
        """Write whole lines. A closed log does not stop the service."""
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self.stream.write(text)
            self.flush()


@contextmanager
def written_together() -> Iterator[None]:
    """Write this thread's lines at the end of a ``with`` block, in as few pieces as possible.

    Writing costs more than making the line: several workers take turns at one file or pipe.
    """
    lines: list[str] = []
    _HELD.lines = lines
    try:
        yield
    finally:
        _HELD.lines = None
        for piece in _pieces(lines):
            _HELD.handler.write(piece)


def _pieces(lines: list[str]) -> Iterator[str]:
    """Whole lines, joined as far as a pipe takes them in one atomic write (PIPE_BUF)."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode())
        if piece and size + length > select.PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    if piece:
        yield "".join(piece)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; whatever a client sent is escaped by the encoding."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return msgspec.json.encode(line).decode()


class PlainFormatter(logging.Formatter):
    """A record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        words = [_iso_time(record.created), record.levelname, record.getMessage()]
        words += [f"{name}={value!r}" for name, value in fields.items()]
        if record.exc_info:
            words.append("\n" + "".join(traceback.format_exception(*record.exc_info)))
        return " ".join(words)


def configuration(settings: Settings) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` takes: everything to standard output in one format."""
    formatter = JsonFormatter if settings.log_format == "json" else PlainFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stdout": {"()": LineHandler, "formatter": "line", "stream": sys.stdout}},
        "root": {"level": settings.log_level.upper(), "handlers": ["stdout"]},
        "loggers": {
            # gunicorn's own loggers get handlers of theirs unless they are told otherwise.
            "gunicorn.error": {
                "level": settings.log_level.upper(),
                "handlers": [],
                "propagate": True,
            },
            "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }


def log_request(record: RequestRecord) -> None:
    """The line of one answered request; successful probes and scrapes have none."""
    if record.route in _QUIET_ROUTES and record.status < 400:
        return
    if not _REQUESTS.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "ms": round(record.seconds * 1e3, 3),
    }
    for name, spent in record.phases.items():
        fields[_PHASES[name]] = round(spent * 1e3, 3)
    fields["bytes"] = record.bytes_in
    if record.problem is not None:
        fields["problem"] = record.problem
    if len(record.top) == 1:
        label, probability = record.top[0]
        fields |= {"label": label, "probability": round(probability, 4)}
    handler = _json_handler()
    if handler is None:
        _REQUESTS.info("request", extra={"fields": fields})
        return
    # A LogRecord would cost as much again as the line. The line may be some milliseconds late.
    ago = time.monotonic() - record.ended
    line = {
        "time": _iso_time(time.time() - ago),
        "level": "info",
        "logger": _REQUESTS.name,
        "message": "request",
        **fields,
    }
    handler.write_line(msgspec.json.encode(line).decode())


def _json_handler() -> LineHandler | None:
    """The one handler of all records, if it writes JSON."""
    handlers = logging.root.handlers
    if len(handlers) == 1 and isinstance(handlers[0], LineHandler):
        return handlers[0] if isinstance(handlers[0].formatter, JsonFormatter) else None
    return None


def _iso_time(moment: float) -> str:
    second, milliseconds = divmod(int(moment * 1e3), 1000)
    return f"{_to_the_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(moment: int) -> str:
    """ISO 8601 to the second, cached: the lines of one second share it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
