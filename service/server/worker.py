"""gunicorn's worker: a process with an event loop, and with an onnxruntime session of its own."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker

from service.http.current import endpoints_of, service_of
from service.inference.errors import ModelError
from service.runtime.machine import SPARE_DESCRIPTORS
from service.runtime.shared_state import current_slot
from service.server.connections import Connections
from service.settings import SettingsError

HEARTBEAT_SECONDS = 1.0


@contextmanager
def one_clear_line(log: Logger) -> Iterator[None]:
    """End the process, and with it the service, where the application cannot be made."""
    try:
        yield
    except (ModelError, SettingsError) as error:
        first = current_slot().state.first_failure()
        if first:
            log.critical("cannot start: %s", error)
        # gunicorn would print a traceback if it were told of a second one while it stops.
        sys.exit(Arbiter.WORKER_BOOT_ERROR if first else 0)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Worker(BaseWorker):  # type: ignore[misc]
    """What gunicorn starts, watches and stops."""

    def init_process(self) -> None:
        """Make the event loop, which handles the signals too, and run until the end."""
        self.loop = new_event_loop()
        self._stop = asyncio.Event()
        self._at_once = False
        super().init_process()

    def init_signals(self) -> None:
        """Note signals until the loop handles them: it forgets those that come before it runs."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number, handle in self._handlers():
            signal.signal(number, partial(_without_arguments, handle))
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        # The master's last word to a worker that has hung: the loop would not come to it.
        signal.signal(signal.SIGABRT, self.handle_abort)

    def load_wsgi(self) -> None:
        """Make the application; one that cannot be made ends the service with one clear line."""
        with one_clear_line(self.log):
            super().load_wsgi()

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    def _let_loop_handle_signals(self) -> None:
        """On the running loop: a handler of Python's could interrupt any line."""
        for number, handle in self._handlers():
            self.loop.add_signal_handler(number, handle)

    def _handlers(self) -> Iterator[tuple[signal.Signals, Callable[[], object]]]:
        yield signal.SIGTERM, self._begin_stop
        yield signal.SIGINT, self._stop_at_once
        yield signal.SIGQUIT, self._stop_at_once
        yield signal.SIGUSR1, self.log.reopen_files

    async def _serve(self) -> None:
        self._let_loop_handle_signals()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        listeners = [listener.sock for listener in self.sockets]
        at_most = min(self.cfg.worker_connections, limit - SPARE_DESCRIPTORS)
        service, endpoints = service_of(self.wsgi), endpoints_of(self.wsgi)
        connections = Connections(self.wsgi, service, endpoints, listeners, at_most)
        beating = asyncio.create_task(self._beat())
        connections.start()
        await self._stop.wait()
        await connections.stop(0 if self._at_once else self.cfg.graceful_timeout)
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating

    async def _beat(self) -> None:
        """Tell the master that the loop runs; stop when the master is gone."""
        while True:
            self.notify()
            if self.ppid != os.getppid() and not self._stop.is_set():
                self.log.info("the master is gone, stopping")
                self._begin_stop()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _begin_stop(self) -> None:
        self.alive = False
        self._stop.set()

    def _stop_at_once(self) -> None:
        self._at_once = True
        self._begin_stop()


def _without_arguments(handle: Callable[[], object], _number: int, _frame: object) -> None:
    handle()
