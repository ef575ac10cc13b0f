"""How many predictions may be inside one worker, and who is turned away."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.web.errors import Overloaded
from service.web.exchange import Exchange

# How long a newcomer may be expected to wait; what a refused one is told to wait, too.
WAIT_SECONDS = 1.0
# What the last request says of how long the next ones take; the ones before say the rest.
_WEIGHT = 1 / 64


class Admission:
    """A counter with a bound. Entering never waits: who does not fit is told at once.

    Args:
        limit: how many may be inside, however long they take.
        gauge: where monitoring finds how many there are.
        by_wait: let in more than that as long as they can be expected to be answered within
            ``WAIT_SECONDS``. By Little's law (1961) that is how many are inside times the seconds
            from one answer to the next: a request's time inside by how many were there.
    """

    def __init__(self, limit: int, gauge: Gauge, *, by_wait: bool = False) -> None:
        self.limit = limit
        self._gauge = gauge
        self._by_wait = by_wait
        self._seconds_each = 0.0
        self._inside = self._shown = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Whether another one would fit now.

        Raises:
            Overloaded: it would not.
        """
        if self._inside >= self.limit and not self._is_soon():
            raise Overloaded(f"{self._inside} requests are being answered already, try again")

    def _is_soon(self) -> bool:
        return self._by_wait and 0 < (self._inside + 1) * self._seconds_each <= WAIT_SECONDS

    def enter(self, exchange: Exchange) -> None:
        """Let a request in; ``leave`` has to follow.

        Raises:
            Overloaded: too many are inside already.
        """
        with self._lock:
            self.check()
            self._inside += 1
        exchange.admitted = time.monotonic()

    def leave(self, exchange: Exchange) -> None:
        """Let a request go."""
        now = time.monotonic()
        since, exchange.admitted = exchange.admitted or now, None
        with self._lock:
            each = (now - since) / self._inside
            mean = self._seconds_each or each
            self._seconds_each = mean + _WEIGHT * (each - mean)
            self._inside -= 1

    def show(self) -> None:
        """Write how many are inside where monitoring finds it; not with each who comes or goes."""
        with self._lock:
            if self._shown != self._inside:
                self._shown = self._inside
                self._gauge.set(self._inside)

    @contextmanager
    def inside(self, exchange: Exchange) -> Iterator[None]:
        """Be inside for a ``with`` block, unless a transport has let this request in already.

        Raises:
            Overloaded: too many are inside already.
        """
        if exchange.admitted is not None:
            yield
            return
        self.enter(exchange)
        self.show()
        try:
            yield
        finally:
            self.leave(exchange)
            self.show()
