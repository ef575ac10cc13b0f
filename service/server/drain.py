"""What SIGTERM does first: readiness turns false, and the service goes on answering for a while."""

import signal
import threading

from gunicorn.arbiter import Arbiter

from service.runtime.shared_state import SharedState


class Drain:
    """gunicorn's ``handle_term``: readiness turns false at once, the listeners close later.

    Orchestrators and proxies take a moment to notice; until then they send requests here.
    """

    def __init__(self, arbiter: Arbiter, state: SharedState, seconds: float) -> None:
        self._arbiter = arbiter
        self._state = state
        self._seconds = seconds

    def __call__(self) -> None:
        if self._state.draining or not self._seconds:
            self._state.drain()
            raise StopIteration  # gunicorn's word for a graceful stop
        self._state.drain()
        self._arbiter.log.info("draining for %g s", self._seconds)
        again = threading.Timer(self._seconds, self._arbiter.SIG_QUEUE.put, [signal.SIGTERM])
        again.daemon = True
        again.start()
