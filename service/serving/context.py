"""One request while it is answered: its id, deadline, phases, and whether the client waits."""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from service.runtime.records import UNMATCHED, AllHeaders, Phase, RequestRecord, Trace
from service.runtime.traces import Traces
from service.serving.cors import cors_headers
from service.serving.errors import ClientDisconnected, DeadlineExceeded
from service.serving.problems import has_error_member
from service.serving.served import Served
from service.settings import Settings

# Kept if it cannot forge a log line, a header or a metric.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Headers(Protocol):
    """A request's header fields, of any server or framework."""

    def get(self, name: str, default: str, /) -> str:
        """The first value of a name, in whatever case it was sent."""


@dataclass(slots=True)
class RequestContext:
    """What is known of one request while it is answered; times in seconds of the monotonic clock.

    ``phases``, ``images``, ``top`` and ``familiarity`` are as of ``RequestRecord``. ``admitted``:
    since when admission counts it; ``background``: its work is done behind all others;
    ``abandoned``: the client has disconnected or was told that its time is over; ``ended``: when it
    was answered. ``served``: what answers it, of a request that asks a model; it stays the same.
    ``cors``: headers of its answer, for browsers. ``error_member``: its client reads an error as
    one member, and no problem's members. ``keeps_pixels``: its outcomes have the pixels too;
    ``afterwards``: called once, when its answer has gone or it has failed; it never waits.
    ``trace``: that of a request that is traced.
    """

    request_id: str
    method: str
    started: float
    deadline: float
    path: str = ""
    error_member: bool = False
    cors: dict[str, str] = field(default_factory=dict)
    route: str = UNMATCHED
    bytes_in: int = 0
    phases: dict[str, float] = field(default_factory=dict)
    images: list[tuple[int, int]] = field(default_factory=list)
    top: list[tuple[str, float]] = field(default_factory=list)
    familiarity: list[tuple[float, bool]] = field(default_factory=list)
    problem: str | None = None
    admitted: float | None = None
    background: bool = False
    abandoned: bool = False
    keeps_pixels: bool = False
    afterwards: Callable[[], None] | None = None
    ended: float | None = None
    served: Served | None = None
    trace: Trace | None = None

    @classmethod
    def begin(
        cls,
        method: str,
        headers: AllHeaders,
        settings: Settings,
        path: str = "",
        traces: Traces | None = None,
    ) -> "RequestContext":
        """A request whose head has just been read: its time begins.

        ``path`` is empty where the head could not be read; such a request is not traced.
        """
        now = time.monotonic()
        request_id = request_id_of(headers)
        return cls(
            request_id,
            method,
            now,
            now + settings.request_timeout,
            path,
            trace=traces.begin(request_id, path, headers) if traces else None,
            error_member=has_error_member(path) or path == settings.platform_predict_route,
            cors=cors_headers(
                settings.cors_origins,
                headers.get("Origin", ""),
                preflight=method == "OPTIONS"
                and bool(headers.get("Access-Control-Request-Method", "")),
            ),
        )

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def check_wanted(self) -> None:
        """Stop here if the client no longer waits for the answer.

        Raises:
            ClientDisconnected: the client has closed its connection.
            DeadlineExceeded: the request's time is over.
        """
        if self.abandoned:
            raise ClientDisconnected("the client has closed its connection")
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded(
                f"the request was not answered within {self.deadline - self.started:g} s"
            )

    @property
    def ids(self) -> dict[str, str]:
        """By which this request is found in the log: fields of its lines."""
        return {"request_id": self.request_id, **(self.trace.ids if self.trace else {})}

    def add_phase(self, name: str, begun: float, ended: float) -> None:
        """Add to the time of a phase."""
        self.phases[name] = self.phases.get(name, 0.0) + (ended - begun)
        if self.trace is not None:
            self.trace.phases.append(Phase(name, begun, ended))

    def wait_since(self, moment: float) -> None:
        """Add the time since a moment of the monotonic clock to the phase ``wait``."""
        self.add_phase("wait", moment, time.monotonic())

    def record(self, status: int) -> RequestRecord:
        """What monitoring is told of this request, which has ended."""
        ended = self.ended or time.monotonic()
        model, version = (self.served.name, self.served.number) if self.served else ("", 0)
        return RequestRecord(
            request_id=self.request_id,
            method=self.method,
            route=self.route,
            status=status,
            ended=ended,
            seconds=ended - self.started,
            bytes_in=self.bytes_in,
            phases=self.phases,
            images=self.images,
            top=self.top,
            familiarity=self.familiarity,
            problem=self.problem,
            model=model,
            version=version,
            trace=self.trace,
        )

    def phase(self, name: str) -> "_Phase":
        """Add the time that a ``with`` block takes to a phase."""
        return _Phase(self, name)


class _Phase:
    """A class: a generator would cost more than most of what is timed."""

    def __init__(self, context: RequestContext, name: str) -> None:
        self._context = context
        self._name = name

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_exception: object) -> None:
        self._context.add_phase(self._name, self._begun, time.monotonic())


def request_id_of(headers: Headers) -> str:
    """``X-Request-ID`` if short and plain, else the trace of ``traceparent``, else a new one."""
    given = headers.get("X-Request-ID", "")
    if _PLAIN_ID.fullmatch(given):
        return given
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace.group(1) if trace else secrets.token_hex(16)
