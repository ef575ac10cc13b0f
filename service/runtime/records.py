"""What monitoring is told of one answered request."""

from typing import NamedTuple


class RequestRecord(NamedTuple):
    """One answered request. ``ended`` is of the monotonic clock; ``seconds`` from head to answer.

    ``phases`` maps decode, wait, inference and background (for tasks behind all others) to the
    seconds spent there. ``images`` has (bytes, pixels) of each decoded image, ``top`` the most
    probable label of each and its probability, ``familiarity`` that of each and whether it is
    unfamiliar, of a model that has it. ``problem`` is the short name of the refusal, if it was
    refused. ``model`` and ``version`` are what answers, of a request that asks a model: its name
    and the version's number; else empty and 0.
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
