"""What SIGTERM does first: say so to those who ask, and go on answering for a while."""

import signal
import threading

from gunicorn.arbiter import Arbiter

from service.web.scoreboard import Scoreboard


class Drain:
    """gunicorn's ``handle_term``: readiness turns false at once, the listeners close later.

    Orchestrators and proxies take a moment to notice; until then they send requests here.
    """

    def __init__(self, arbiter: Arbiter, board: Scoreboard, seconds: float) -> None:
        self._arbiter = arbiter
        self._board = board
        self._seconds = seconds

    def __call__(self) -> None:
        if self._board.draining or not self._seconds:
            self._board.drain()
            raise StopIteration  # gunicorn's word for a graceful stop
        self._board.drain()
        self._arbiter.log.info("draining for %g s", self._seconds)
        again = threading.Timer(self._seconds, self._arbiter.SIG_QUEUE.put, [signal.SIGTERM])
        again.daemon = True
        again.start()
