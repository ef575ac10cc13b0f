"""One request and its answer as monitoring sees them."""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

from service.inference.classifier import Prediction
from service.web.errors import CallerGone, DeadlineExceeded

# Kept if it cannot forge a log line, a header or a metric.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

UNMATCHED = "unmatched"


class Headers(Protocol):
    """A request's header fields, whoever has read them."""

    def get(self, name: str, default: str, /) -> str:
        """The first value of a name, in whatever case it was sent."""


@dataclass(slots=True)
class Exchange:
    """What is known of one request while it is answered; times in seconds of the monotonic clock.

    ``phases`` maps decode, wait and inference to the seconds spent there. ``admitted``: since when
    admission counts it; ``abandoned``: the client is gone; ``ended``: when it was answered.
    """

    request_id: str
    method: str
    started: float
    deadline: float
    route: str = UNMATCHED
    bytes_in: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    images: list[tuple[int, int]] = field(default_factory=list)
    top: list[Prediction] = field(default_factory=list)
    problem: str | None = None
    admitted: float | None = None
    abandoned: bool = False
    ended: float | None = None

    @classmethod
    def begin(cls, method: str, headers: Headers, timeout: float) -> "Exchange":
        """A request whose head has just been read, with ``timeout`` seconds to be answered in."""
        now = time.monotonic()
        return cls(request_id_of(headers), method, now, now + timeout)

    @property
    def seconds(self) -> float:
        """How long the request has been here, or was."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def check_wanted(self) -> None:
        """Stop here if nobody waits for the answer any more.

        Raises:
            CallerGone: the client has closed its connection.
            DeadlineExceeded: the request's time is over.
        """
        if self.abandoned:
            raise CallerGone("the client has closed its connection")
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded(
                f"the request was not answered within {self.deadline - self.started:g} s"
            )

    def add_phase(self, name: str, seconds: float) -> None:
        """Add to the time of a phase."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds

    def wait_since(self, moment: float) -> None:
        """Add the time since a moment of the monotonic clock to the phase ``wait``."""
        self.add_phase("wait", time.monotonic() - moment)

    def phase(self, name: str) -> "_Phase":
        """Add the time that a ``with`` block takes to a phase."""
        return _Phase(self, name)


class _Phase:
    """A class, because a generator costs more than most of what is timed."""

    def __init__(self, exchange: Exchange, name: str) -> None:
        self._exchange = exchange
        self._name = name

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_exception: object) -> None:
        self._exchange.add_phase(self._name, time.monotonic() - self._begun)


def request_id_of(headers: Headers) -> str:
    """``X-Request-ID`` if short and plain, else the trace of ``traceparent``, else a new one."""
    given = headers.get("X-Request-ID", "")
    if _PLAIN_ID.fullmatch(given):
        return given
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace.group(1) if trace else secrets.token_hex(16)
