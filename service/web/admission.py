"""How many predictions may be inside one worker, and who is turned away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.web.errors import Overloaded
from service.web.exchange import Exchange


class Admission:
    """A counter with a bound. Entering never waits: who does not fit is told at once."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self.limit = limit
        self._gauge = gauge
        self._inside = self._shown = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Whether another one would fit now.

        Raises:
            Overloaded: it would not.
        """
        if self._inside >= self.limit:
            raise Overloaded(f"{self.limit} requests are being answered already, try again")

    def enter(self, exchange: Exchange) -> None:
        """Let a request in; ``leave`` has to follow.

        Raises:
            Overloaded: ``limit`` are inside already.
        """
        with self._lock:
            self.check()
            self._inside += 1
        exchange.admitted = True

    def leave(self, exchange: Exchange) -> None:
        """Let a request go."""
        exchange.admitted = False
        with self._lock:
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
            Overloaded: ``limit`` are inside already.
        """
        if exchange.admitted:
            yield
            return
        self.enter(exchange)
        self.show()
        try:
            yield
        finally:
            self.leave(exchange)
            self.show()
