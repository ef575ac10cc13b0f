"""How many requests may be in flight in one worker; the others are refused at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.serving.context import RequestContext
from service.serving.errors import Overloaded

# A request is admitted while its expected wait is below this.
WAIT_SECONDS = 1.0
# Weight of the newest request in the moving average of seconds from one answer to the next.
_WEIGHT = 1 / 64


class Admission:
    """A counter with a bound. Entering never waits: beyond the bound it raises.

    Args:
        limit: how many may be in flight, however long they take.
        gauge: where monitoring finds how many there are.
        by_wait: admit more as long as they are expected to be answered within ``WAIT_SECONDS``. By
            Little's law (1961) the wait is the number in flight times the seconds from one answer
            to the next; those are one request's seconds in flight over the number in flight.
    """

    def __init__(self, limit: int, gauge: Gauge, *, by_wait: bool = False) -> None:
        self.limit = limit
        self._gauge = gauge
        self._by_wait = by_wait
        self._seconds_each = 0.0
        self._in_flight = self._background = self._published = 0
        self._lock = threading.Lock()

    @property
    def background(self) -> int:
        """How many of those in flight are done behind all others."""
        return self._background

    def check(self, *, background: bool = False) -> None:
        """Whether another one would fit now.

        What is done behind all others is refused first: it has half of the room.

        Raises:
            Overloaded: it would not.
        """
        if background and 2 * self._in_flight >= self.limit:
            raise Overloaded(
                f"{self._in_flight} requests are being answered already and predictions come first,"
                " try again"
            )
        if self._in_flight >= self.limit and not self._is_soon():
            raise Overloaded(f"{self._in_flight} requests are being answered already, try again")

    def _is_soon(self) -> bool:
        return self._by_wait and 0 < (self._in_flight + 1) * self._seconds_each <= WAIT_SECONDS

    def enter(self, context: RequestContext, *, background: bool = False) -> None:
        """Count a request in; ``leave`` has to follow.

        Raises:
            Overloaded: too many are in flight already.
        """
        with self._lock:
            self.check(background=background)
            self._in_flight += 1
            self._background += background
        context.admitted, context.background = time.monotonic(), background

    def leave(self, context: RequestContext) -> None:
        """Count a request out."""
        now = time.monotonic()
        since, context.admitted = context.admitted or now, None
        with self._lock:
            if not context.background:  # nobody waits for what is done behind all others
                each = (now - since) / self._in_flight
                mean = self._seconds_each or each
                self._seconds_each = mean + _WEIGHT * (each - mean)
            self._in_flight -= 1
            self._background -= context.background

    def publish(self) -> None:
        """Write how many are in flight to the gauge; too slow to do for every request."""
        with self._lock:
            if self._published != self._in_flight:
                self._published = self._in_flight
                self._gauge.set(self._in_flight)

    @contextmanager
    def admit(self, context: RequestContext, *, background: bool = False) -> Iterator[None]:
        """Count a request for a ``with`` block.

        Raises:
            Overloaded: too many are in flight already.
        """
        self.enter(context, background=background)
        self.publish()
        try:
            yield
        finally:
            self.leave(context)
            self.publish()
