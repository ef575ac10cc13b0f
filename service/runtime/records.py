"""What monitoring is told of one answered request."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context

UNMATCHED = "unmatched"  # the route of what no route takes


class AllHeaders(Protocol):
    """A request's header fields, where a name may be there several times."""

    def get(self, name: str, default: str, /) -> str:
        """The first value of a name, in whatever case it was sent."""

    def getlist(self, name: str, /) -> list[str]:
        """All values of a name."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Names and values."""


class Phase(NamedTuple):
    """When a phase began and ended; a request may have one of a name several times."""

    name: str
    begun: float
    ended: float


@dataclass(slots=True)
class Trace:
    """What is kept of a request that is traced: the ids of its server span, and its phases.

    ``parent``: what the client's headers tell of the trace; ``path``: without the root path.
    """

    trace_id: int
    span_id: int
    parent: "Context"
    path: str
    headers: AllHeaders
    phases: list[Phase] = field(default_factory=list)

    @property
    def ids(self) -> dict[str, str]:
        """Fields of the log's lines, as W3C Trace Context writes them."""
        return {"trace_id": f"{self.trace_id:032x}", "span_id": f"{self.span_id:016x}"}


class RequestRecord(NamedTuple):
    """One answered request. ``ended`` is of the monotonic clock; ``seconds`` from head to answer.

    ``phases`` maps decode, wait, inference and background (for tasks behind all others) to the
    seconds spent there. ``images`` has (bytes, pixels) of each decoded image, ``top`` the most
    probable label of each and its probability, ``familiarity`` that of each and whether it is
    unfamiliar, of a model that has it. ``problem`` is the short name of the refusal, if it was
    refused. ``model`` and ``version`` are what answers, of a request that asks a model: its name
    and the version's number; else empty and 0. ``trace`` is that of a request that is traced.
    """

    request_id: str
    method: str
    route: str
    status: int
    ended: float
    seconds: float
    bytes_in: int
    phases: dict[str, float]
    images: list[tuple[int, int]]
    top: list[tuple[str, float]]
    familiarity: list[tuple[float, bool]]
    problem: str | None
    model: str = ""
    version: int = 0
    trace: Trace | None = None
