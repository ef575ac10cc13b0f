"""All connections of one worker: accepting them, their limits, and handing out their work."""

import asyncio
import socket
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from functools import partial

from service.http.current import CONTEXT_KEY
from service.http.endpoints import Endpoints
from service.http.health import METRICS
from service.http.root_path import WsgiApp
from service.server.messages import Head, call_app
from service.server.protocol import Connection, Incoming, Stage
from service.serving import responses
from service.serving.context import RequestContext
from service.serving.errors import Overloaded
from service.serving.pipeline import PredictRequest
from service.serving.responses import Response
from service.serving.service import Service

# A worker with more connections than another leaves a new one to the others for this long. Then it
# takes one that is still waiting.
BACK_OFF_SECONDS = 0.002
# When the service stops, requests of kept-alive clients may be on the wire.
STOP_IDLE_SECONDS = 2.0
# A body that has been coming for longer than this may have to make room for others.
SLOW_SECONDS = 1.0
# Answers are counted and logged together: at most this many, at most this late.
FLUSH_RECORDS = 16
FLUSH_SECONDS = 0.01
# Each refusal for want of room takes this long of a budget that refills with time and never exceeds
# REFUSALS_AT_ONCE_SECONDS. Beyond it, the refused connection is not read for a while, at most
# THROTTLE_SECONDS: clients that ask again at once would leave no time for answers.
REFUSAL_SECONDS = 0.002
REFUSALS_AT_ONCE_SECONDS = 0.2
THROTTLE_SECONDS = 1.0


class Connections:
    """What the connections of one worker share.

    Args:
        app: answers what takes no images.
        service: the parts of the service.
        endpoints: the routes that take images.
        listeners: bound and listening sockets.
        max_connections: beyond it the longest idle connection is closed.
    """

    def __init__(
        self,
        app: WsgiApp,
        service: Service,
        endpoints: Endpoints,
        listeners: list[socket.socket],
        max_connections: int,
    ) -> None:
        self._app = app
        self._service = service
        self.settings = service.settings
        self.endpoints = endpoints
        self.admission = service.admission
        self.traces = service.traces
        self._listeners = listeners
        self._max_connections = max_connections
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[object]] = set()
        self.buffered = 0  # bytes of bodies
        self.stopping = False
        self._throttled_until = 0.0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._date = (0, "")

    # ---- start and stop ----------------------------------------------------------------------

    def start(self) -> None:
        """Accept connections on the running event loop."""
        self.loop = asyncio.get_running_loop()
        # Large bodies have threads of their own, so that nothing else waits for them.
        # Scrapes have one, because they may wait for the other workers' counts.
        openers = self._service.sizing.decoders + 1  # one file may take long
        self._openers = ThreadPoolExecutor(openers, thread_name_prefix="open")
        self._app_threads = ThreadPoolExecutor(1, thread_name_prefix="app")
        self._scrapes = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._service.batcher.run_on(self.loop, self._openers)
        for listener in self._listeners:
            listener.setblocking(False)
            self._listen(listener)

    async def stop(self, seconds: float) -> None:
        """Take what the kernel has accepted, then nothing more; answer what is here.

        Args:
            seconds: how long that may take.
        """
        self.stopping = True
        for listener in self._listeners:
            self.loop.remove_reader(listener)
            self._accept(listener, self._max_connections)
            listener.close()
        self._listeners = []
        for connection in self._open:
            connection.stop_idling(STOP_IDLE_SECONDS)
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next iteration
        self._flush()
        for pool in (self._openers, self._app_threads, self._scrapes):
            pool.shutdown(wait=False, cancel_futures=True)
        self._service.shadow.stop()
        self._service.batcher.stop()

    # ---- accepting ---------------------------------------------------------------------------

    def _listen(self, listener: socket.socket) -> None:
        self.loop.add_reader(listener, self._accept_share, listener)

    def _accept_share(self, listener: socket.socket) -> None:
        """Accept waiting connections while no other worker has fewer.

        Otherwise one worker could accept all connections of a few busy clients, and leave a core
        idle. With many connections a quarter more than another worker is near enough.
        """
        fewest = self._service.slot.state.fewest_connections()
        room = fewest + fewest // 4 + 2 - len(self._open)
        if room > 0:
            self._accept(listener, room)
        else:
            self.loop.remove_reader(listener)
            self.loop.call_later(BACK_OFF_SECONDS, self._accept_left_over, listener)

    def _accept_left_over(self, listener: socket.socket) -> None:
        if not self.stopping:
            self._accept(listener, 1)
            self._listen(listener)

    def _accept(self, listener: socket.socket, at_most: int) -> None:
        for _ in range(at_most):
            try:
                sock, address = listener.accept()
            except OSError:  # none is waiting, or it is gone again
                return
            if len(self._open) >= self._max_connections and not self._close_idlest():
                sock.close()
                continue
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, address[0] if address else "")
            self._open.add(connection)
            self._count()
            task = self.loop.create_task(self._connect(connection, sock))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:  # the client is gone again
            connection.close()
            sock.close()

    def _close_idlest(self) -> bool:
        """Close the connection that would be closed next anyway, an idle one first."""
        idle = (c for c in self._open if c.stage in (Stage.IDLE, Stage.HEAD))
        idlest = min(idle, key=lambda c: (c.stage is Stage.HEAD, c.expires), default=None)
        if idlest is not None:
            idlest.close()
        return idlest is not None

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        self._count()

    def _count(self) -> None:
        self._service.slot.set_connections(len(self._open))

    # ---- limits ------------------------------------------------------------------------------

    def release(self, incoming: Incoming) -> None:
        """Give back the buffer's room of a body, unless something still works on it."""
        if not incoming.in_work:
            self.buffered -= incoming.held
            incoming.held = 0

    def make_room(self, newcomer: Connection) -> Overloaded | None:
        """If the buffer is full, refuse the bodies that come most slowly, until the rest fits.

        A few clients that send much and then nothing would otherwise keep all others out.

        Returns:
            Why the newcomer itself has to be refused, if its body is among the slow ones or none
            is slow.
        """
        limit = self._service.sizing.buffered_bytes
        if self.buffered <= limit:
            return None
        full = Overloaded(f"{limit} bytes of images are waiting already, try again")
        now = time.monotonic()

        def seconds(connection: Connection) -> float:
            """How long its body has been coming."""
            return now - connection.expires + self.settings.body_timeout + 1e-6

        bodies = [c for c in self._open if c.stage is Stage.BODY and c.body_size]
        for slowest in sorted(bodies, key=lambda c: c.body_size / seconds(c)):
            if slowest is newcomer or seconds(slowest) < SLOW_SECONDS:
                return full
            slowest.refuse(full)
            if self.buffered <= limit:
                return None
        return full

    def throttle(self) -> float:
        """A connection was refused for want of room: until when it is not read (monotonic)."""
        now = time.monotonic()
        since = max(self._throttled_until, now - REFUSALS_AT_ONCE_SECONDS)
        self._throttled_until = min(since + REFUSAL_SECONDS, now + THROTTLE_SECONDS)
        return self._throttled_until

    # ---- work --------------------------------------------------------------------------------

    def work(self, connection: Connection, incoming: Incoming) -> None:
        """Have a whole request answered; ``connection.worked`` is called with the response."""
        head, context = incoming.head, incoming.context
        assert head is not None and context is not None  # noqa: S101, PT018
        incoming.in_work = True
        body = incoming.take_body()
        self._flush_soon()
        if incoming.found is not None:
            context.bytes_in = len(body)
            request = PredictRequest(body, head.headers, head.query, context)
            done = partial(self._predicted, connection, incoming)
            self._service.batcher.submit(request, incoming.found.endpoint.read, done)
            return
        threads: Executor = self._scrapes if head.path == METRICS else self._app_threads
        threads.submit(self._call_app, connection, incoming, head, body, context)

    def _predicted(
        self, connection: Connection, incoming: Incoming, answer: Response | Exception
    ) -> None:
        context = connection.context_of(incoming)
        if isinstance(answer, Exception):
            response = responses.error_response(answer, context)
        else:
            response = responses.complete(answer, context)
        self.admission.leave(context)
        self.account(context, response.status)
        self._worked(connection, incoming, response)
        if context.afterwards is not None:
            self.loop.call_soon(context.afterwards)  # uvloop writes at the end of an iteration

    def _call_app(
        self,
        connection: Connection,
        incoming: Incoming,
        head: Head,
        body: bytes,
        context: RequestContext,
    ) -> None:
        """In a thread: answer with the application."""
        try:
            response = call_app(self._app, head, body, connection.peer, {CONTEXT_KEY: context})
        except Exception as error:  # noqa: BLE001  the client gets an answer
            response = responses.error_response(error, context)
            self._service.accounting.add(context, response.status)
        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._worked, connection, incoming, response)

    def _worked(self, connection: Connection, incoming: Incoming, response: Response) -> None:
        incoming.in_work = False
        self.release(incoming)
        connection.worked(incoming, response)

    # ---- counting ----------------------------------------------------------------------------

    def account(self, context: RequestContext, status: int) -> None:
        """Have an answered request counted and logged, soon."""
        accounting = self._service.accounting
        accounting.add(context, status)
        if accounting.pending >= FLUSH_RECORDS:
            self._flush()
        else:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self.loop.call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self.admission.publish()
        self._service.accounting.flush()

    def http_date(self) -> str:
        """The time now, as of RFC 9110, 5.6.7."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True))
        return self._date[1]
