"""One JSON object a line on standard output, or plain lines for a terminal."""

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from service.runtime.log_writer import LogWriter
from service.runtime.records import RequestRecord
from service.settings import Settings

_REQUESTS = logging.getLogger("labelserve.requests")
_PHASES = {name: f"{name}_ms" for name in ("wait", "decode", "inference", "background")}
_QUIET_ROUTES = ("/health", "/health/live", "/health/ready", "/metrics")

# How long a process that ends waits for the reader of its last lines.
_FLUSH_SECONDS = 1.0


class LineHandler(logging.Handler):
    """Gives lines to the process's ``LogWriter``: no logging call waits for the log's reader."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = LogWriter(descriptor, self._gap)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        self.writer.put(self._line(record))

    def flush(self) -> None:
        """Wait for the reader, within a bound; ``logging`` calls it when the process ends."""
        self.writer.flush(_FLUSH_SECONDS)

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def _gap(self, lines: int) -> bytes:
        about = {
            "name": "labelserve.log",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "lines of the log were lost here: their reader did not keep up",
            "fields": {"lines": lines},
        }
        return self._line(logging.makeLogRecord(about))


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
        "handlers": {
            "stdout": {"()": LineHandler, "formatter": "line", "descriptor": _standard_output()}
        },
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


def _standard_output() -> int:
    """Its descriptor; standard error's where it is closed (number 1 may be any other file then)."""
    stream = sys.stdout or sys.stderr
    return stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)


def count_drops(count: Callable[[int], None]) -> None:
    """Have the lines that this process drops from its log counted."""
    for handler in logging.root.handlers:
        if isinstance(handler, LineHandler):
            handler.writer.on_drop = count


def is_quiet(record: RequestRecord) -> bool:
    """Whether nobody wants to read of it: a successful probe or scrape."""
    return record.route in _QUIET_ROUTES and record.status < 400


def log_request(record: RequestRecord) -> None:
    """The line of one answered request, if it is not quiet."""
    if is_quiet(record):
        return
    if not _REQUESTS.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        **(record.trace.ids if record.trace else {}),
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "ms": round(record.seconds * 1e3, 3),
    }
    if record.model:
        fields |= {"model": record.model, "model_version": record.version}
    for name, spent in record.phases.items():
        fields[_PHASES[name]] = round(spent * 1e3, 3)
    fields["bytes"] = record.bytes_in
    if record.problem is not None:
        fields["problem"] = record.problem
    if len(record.top) == 1:
        label, probability = record.top[0]
        fields |= {"label": label, "probability": round(probability, 4)}
    if len(record.familiarity) == 1:
        familiarity, unfamiliar = record.familiarity[0]
        fields |= {"familiarity": round(familiarity, 4), "unfamiliar": unfamiliar}
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
    handler.writer.put(msgspec.json.encode(line) + b"\n")


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
