"""gunicorn's worker: a process with a session of its own, one loop and a few threads."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker

from service.inference.errors import ModelError
from service.settings import SettingsError
from service.transport.loop import Loop
from service.web.scoreboard import current_seat
from service.web.service import service_of

HEARTBEAT_SECONDS = 1.0
# Descriptors for everything that is not a connection.
SPARE_DESCRIPTORS = 128


@contextmanager
def one_clear_line(log: Logger) -> Iterator[None]:
    """End the process, and with it the service, where the application cannot be made."""
    try:
        yield
    except (ModelError, SettingsError) as error:
        first = current_seat().board.first_failure()
        if first:
            log.critical("cannot start: %s", error)
        # To be told of another one would interrupt gunicorn, with a traceback, while it stops.
        sys.exit(Arbiter.WORKER_BOOT_ERROR if first else 0)


class Worker(BaseWorker):  # type: ignore[misc]
    """What gunicorn starts, watches and stops."""

    def load_wsgi(self) -> None:
        """Make the application; one that cannot be made ends the service with one clear line."""
        with one_clear_line(self.log):
            super().load_wsgi()

    def run(self) -> None:
        """Serve until told to stop."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections = min(self.cfg.worker_connections, limit - SPARE_DESCRIPTORS)
        listeners = [listener.sock for listener in self.sockets]
        loop = Loop(self.wsgi, service_of(self.wsgi), listeners, connections)
        loop.watch(self.PIPE[0])  # a signal writes a byte
        self._beat = 0.0
        loop.run(self._go_on, self.cfg.graceful_timeout)

    def _go_on(self) -> bool:
        now = time.monotonic()
        if now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            self.notify()
            if self.ppid != os.getppid():
                self.log.info("the master is gone, stopping")
                return False
        return bool(self.alive)
