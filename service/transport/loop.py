"""The event loop of one worker: reads requests whole, hands them out, sends the answers.

One thread runs all of this; other threads only take whole requests and leave answers in a queue.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from os import eventfd, eventfd_read, eventfd_write, read

from service.transport.connection import CONTINUE, READ, RECEIVE_BYTES, Connection, Stage
from service.transport.parser import MALFORMED, status_of
from service.transport.predictions import BATCH_ROUTE, ROUTE, Predictions, Work
from service.transport.request import Fields, Head, Request, WsgiApp, call_app, response_bytes
from service.web.app import EXCHANGE_KEY
from service.web.errors import (
    BodyTimeout,
    BodyTooLarge,
    CallerGone,
    DeadlineExceeded,
    Overloaded,
    RequestError,
)
from service.web.exchange import Exchange
from service.web.service import Answer, Service

TICK_SECONDS = 0.25
# How long a worker leaves a connection to others, and for how long that was the last time.
STAND_BACK_SECONDS = 0.002
STAND_BACK_AGAIN_SECONDS = 0.05
# How long an answered client may go on sending what nobody wants, and how much of it.
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024
# Requests that kept-alive clients may have on the wire when the service stops.
STOP_IDLE_SECONDS = 2.0
# A body that has been coming for so long may have to make room for others.
SLOW_SECONDS = 1.0
# How many answers are counted and logged together, and how long the first of them waits for that.
SETTLE_TOGETHER = 16
SETTLE_SECONDS = 0.01
# One refusal for want of room in so many seconds costs nobody anything; so many seconds' worth of
# them may come at once; beyond that a refused connection rests before it is read again, so long at
# most. Clients that ask again at once would otherwise leave no time for answers.
REFUSAL_SECONDS = 0.002
REFUSALS_AT_ONCE_SECONDS = 0.2
REST_SECONDS = 1.0
# A body on a route that takes none.
OTHER_BODY_BYTES = 64 * 1024


class Loop:
    """All connections of one worker."""

    def __init__(
        self,
        app: WsgiApp,
        service: Service,
        listeners: list[socket.socket],
        max_connections: int,
    ) -> None:
        self._app = app
        self._service = service
        self._settings = service.settings
        self._max_connections = max_connections
        # Asked for once: settings look at the machine's cores and quota for it.
        self._buffer_bytes = self._settings.buffered_bytes_per_worker
        self._poller = select.epoll()
        self._wakeup = eventfd(0)
        self._watched: set[int] = set()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._connections: dict[int, Connection] = {}
        self._answers: deque[tuple[Work, Answer]] = deque()
        self._pipelined: deque[tuple[Connection, bytes]] = deque()
        self._resting: deque[Connection] = deque()
        self._rested_from = 0.0
        self._buffered = 0
        self._stopping = False
        self._date = (0, "")
        # Predictions have threads of their own, so that nothing else waits for them; and forms of
        # many have one, so that single pictures do not wait for a whole form.
        decoders = self._settings.decoders_per_worker
        self._predicting = ThreadPoolExecutor(decoders + 1, thread_name_prefix="predict")
        self._batches = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._asides = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._predictions = Predictions(service, self._predicting, self._wake)
        self._stood_back = 0.0
        self._expire_again = self._settled = 0.0
        self._poller.register(self._wakeup, select.EPOLLIN)
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._poller.register(fd, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Wake up for this descriptor too, which does not block (signals)."""
        self._watched.add(fd)
        self._poller.register(fd, select.EPOLLIN)

    def run(self, alive: Callable[[], bool], stop_seconds: float) -> None:
        """Serve while ``alive`` says so (asked at least once a tick), then finish what is here.

        Args:
            alive: also the place for a heartbeat.
            stop_seconds: how long finishing may take.
        """
        while alive():
            self._turn()
        self._begin_stop()
        deadline = time.monotonic() + stop_seconds
        while self._connections and time.monotonic() < deadline:
            alive()
            self._turn()
        for connection in list(self._connections.values()):
            self._close(connection)
        self._service.settle()
        for pool in (self._predicting, self._batches, self._asides):
            pool.shutdown(wait=False, cancel_futures=True)

    # ---- events ------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._take_events()
        while self._answers:
            self._on_answer(*self._answers.popleft())
        for _ in range(len(self._pipelined)):
            connection, data = self._pipelined.popleft()
            if connection.stage is not Stage.CLOSED:
                self._await(connection, READ)
                self._on_data(connection, data)
        self._service.admission.show()
        if self._predictions.pending:
            for work, answer in self._predictions.run():
                self._service.admission.leave(work.request.exchange)
                self._on_answer(work, answer)
        now = time.monotonic()
        if now >= self._expire_again:
            self._expire_again = now + TICK_SECONDS
            self._expire(now)
        while self._resting and self._resting[0].rests_until <= now:
            rested = self._resting.popleft()
            if rested.stage is Stage.IDLE:
                self._await(rested, READ)
        self._settle_if_due(now)

    def _settle_if_due(self, now: float) -> None:
        """Count and log what is answered: at once where little is asked, else some together.

        Who asks for the counts meanwhile waits for it.
        """
        answers = len(self._service.unsettled)
        if answers >= SETTLE_TOGETHER or (answers and now - self._settled >= SETTLE_SECONDS):
            self._settled = now
            self._service.settle()

    def _take_events(self) -> None:
        for fd, event in self._poller.poll(self._patience()):
            connection = self._connections.get(fd)
            if connection is not None:
                self._on_event(connection, event)
            elif fd in self._listeners:
                self._accept_share(self._listeners[fd])
            elif fd == self._wakeup:
                eventfd_read(self._wakeup)
            elif fd in self._watched:  # it has done its work, and would wake the loop again
                read(fd, RECEIVE_BYTES)

    def _patience(self) -> float:
        """How long there may be nothing to do."""
        if self._pipelined or self._predictions.pending:
            return 0
        return SETTLE_SECONDS if self._service.unsettled or self._resting else TICK_SECONDS

    def _wake(self) -> None:
        """From a thread: there is something to do."""
        eventfd_write(self._wakeup, 1)

    def _on_event(self, connection: Connection, event: int) -> None:
        if event & (select.EPOLLHUP | select.EPOLLERR):
            self._close(connection)
        elif event & select.EPOLLOUT:
            self._flush(connection)
        elif connection.stage is Stage.WORKING:
            # While somebody works, only the client's going away is of interest.
            if event & select.EPOLLRDHUP:
                self._close(connection)
            else:
                self._await(connection, select.EPOLLRDHUP)
        elif event & select.EPOLLIN:
            self._receive(connection)

    def _accept_share(self, listener: socket.socket) -> None:
        """Take waiting connections as far as they are for this worker: while no other has fewer.

        One worker could take all connections of a few busy clients, and leave a core idle. One that
        stands back looks again after a moment, and then takes one that nobody else has taken. With
        many, a quarter more than another is near enough: who waits here is not answered meanwhile.
        """
        seat, now = self._service.seat, time.monotonic()
        fewest = seat.board.fewest_connections()
        room = fewest + fewest // 4 + 2 - len(self._connections)
        if room > 0:
            self._accept(listener, at_once=room)
        elif now - self._stood_back > STAND_BACK_AGAIN_SECONDS:
            self._stood_back = now
        elif now - self._stood_back >= STAND_BACK_SECONDS:
            self._accept(listener)

    def _accept(self, listener: socket.socket, at_once: int = 1) -> None:
        for _ in range(at_once):
            try:
                sock, address = listener.accept()
            except OSError:  # nobody there, or gone again
                return
            if len(self._connections) >= self._max_connections and not self._close_idlest():
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            expires = time.monotonic() + self._settings.head_timeout
            peer = address[0] if address else ""
            connection = Connection(sock, peer, expires, self._settings.http_parser)
            self._connections[sock.fileno()] = connection
            self._count_connections()
            self._poller.register(sock.fileno(), connection.events)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
        elif connection.stage is Stage.LINGERING:
            connection.lingered += len(data)
            if connection.lingered > LINGER_BYTES:
                self._close(connection)
        else:
            self._on_data(connection, data)

    # ---- requests ----------------------------------------------------------------------------

    def _on_data(self, connection: Connection, data: bytes) -> None:
        if connection.stage is Stage.IDLE:
            connection.expires = time.monotonic() + self._settings.head_timeout
        try:
            self._feed(connection, data)
            if connection.request is None or connection.stage is not Stage.BODY:
                return
            if connection.whole:
                self._dispatch(connection, connection.request)
        except RequestError as error:
            request = connection.request
            if isinstance(error, BodyTooLarge) and request and not self._predicts(request):
                # Nobody is to read it: whether there is such a route comes first.
                self._forget_body(connection)
                connection.take_body()
                self._dispatch(connection, request)
            else:
                self._refuse(connection, error)
        except MALFORMED as error:
            self._refuse_malformed(connection, error)
        except OSError:
            self._close(connection)

    def _feed(self, connection: Connection, data: bytes) -> None:
        """Give bytes to the parser, and hold what is buffered against its limits."""
        before = connection.body_size
        try:
            head = connection.feed(data)
        finally:
            self._buffered += connection.body_size - before
        if head is not None:
            self._on_head(connection, head)
            connection.check_body()
        if connection.body_size and self._buffered > self._buffer_bytes:
            self._make_room(connection)

    def _make_room(self, newcomer: Connection) -> None:
        """End the bodies that come most slowly, until what is left may be buffered.

        A few clients that send much and then nothing would otherwise keep everybody out.

        Raises:
            Overloaded: the newcomer's is among them, or none is slow.
        """
        now = time.monotonic()
        full = Overloaded(f"{self._buffer_bytes} bytes of images are waiting already, try again")
        bodies = [c for c in self._connections.values() if c.stage is Stage.BODY and c.body_size]
        for slowest in sorted(bodies, key=lambda c: c.body_size / self._body_seconds(c, now)):
            if slowest is newcomer or self._body_seconds(slowest, now) < SLOW_SECONDS:
                raise full
            self._refuse(slowest, full)
            if self._buffered <= self._buffer_bytes:
                return
        raise full

    def _body_seconds(self, connection: Connection, now: float) -> float:
        """How long a body has been coming."""
        return now - connection.expires + self._settings.body_timeout + 1e-6

    def _on_head(self, connection: Connection, head: Head) -> None:
        """The head is there: may the body come?"""
        service = self._service
        exchange = service.begin(head.method, head.headers)
        connection.request = Request(head, exchange)
        connection.expires = time.monotonic() + self._settings.body_timeout
        connection.body_limit = OTHER_BODY_BYTES
        if head.method == "POST" and head.path in service.routes:
            exchange.route = head.path
            connection.body_limit = service.check_head(head.path, head.headers, head.length)
            service.admission.check()
        if connection.wants_continue:
            connection.sock.send(CONTINUE)

    def _dispatch(self, connection: Connection, request: Request) -> None:
        """Hand a whole request to a thread."""
        exchange = request.exchange
        predicting = self._predicts(request)
        if predicting:
            self._service.admission.enter(exchange)
        connection.stage = Stage.WORKING
        connection.expires = exchange.deadline
        work = Work(connection, request, connection.take_body(), time.monotonic())
        if exchange.route == ROUTE and self._predictions.together:
            self._predictions.add(work)
            return
        # Who half closes may still listen; for the little that is no prediction, that is enough.
        self._await(connection, select.EPOLLRDHUP if predicting else 0)
        pools = {ROUTE: self._predicting, BATCH_ROUTE: self._batches}
        pools.get(exchange.route, self._asides).submit(self._work, work)

    def _predicts(self, request: Request) -> bool:
        return request.exchange.route in self._service.routes

    def _work(self, work: Work) -> None:
        """In a thread: answer with the application."""
        exchange = work.request.exchange
        admitted = exchange.admitted is not None
        if admitted:
            exchange.wait_since(work.since)
        extra = {EXCHANGE_KEY: exchange}
        try:
            peer = work.connection.peer
            answer = call_app(self._app, work.request.head, work.body, peer, extra)
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer
            answer = self._service.refuse(error, exchange)
        finally:
            if admitted:
                self._service.admission.leave(exchange)
                self._service.admission.show()
        self._answers.append((work, answer))
        self._wake()

    # ---- answers -----------------------------------------------------------------------------

    def _on_answer(self, work: Work, answer: Answer) -> None:
        self._buffered -= len(work.body)
        # Its client may be gone, or told that its time is over.
        connection = work.connection
        if connection.request is work.request and connection.stage is Stage.WORKING:
            self._answer(connection, answer)

    def _refuse(self, connection: Connection, error: RequestError) -> None:
        """Answer without the application."""
        if isinstance(error, Overloaded):
            self._let_rest(connection)
        self._answer(connection, self._service.refusal(error, self._exchange_of(connection)))

    def _let_rest(self, connection: Connection) -> None:
        """Leave a connection unread for a while, if there have been too many refusals."""
        now = time.monotonic()
        since = max(self._rested_from, now - REFUSALS_AT_ONCE_SECONDS)
        self._rested_from = min(since + REFUSAL_SECONDS, now + REST_SECONDS)
        connection.rests_until = self._rested_from

    def _refuse_malformed(self, connection: Connection, error: Exception) -> None:
        """Answer what is not HTTP; where the next request would begin is unknown."""
        connection.closing = True
        exchange = self._exchange_of(connection)
        self._answer(connection, self._service.malformed(status_of(error), error, exchange))

    def _exchange_of(self, connection: Connection) -> Exchange:
        """The record of the request; one that began just now where not even its head is known."""
        if connection.request is not None:
            return connection.request.exchange
        return self._service.begin("-", Fields([]))

    def _answer(self, connection: Connection, answer: Answer) -> None:
        head = connection.request.head if connection.request else None
        connection.closing |= (
            self._stopping or head is None or not head.keep_alive or not connection.whole
        )
        data = response_bytes(answer, head, self._http_date(), close=connection.closing)
        self._forget_body(connection)
        connection.stage = Stage.WRITING
        connection.expires = time.monotonic() + self._settings.body_timeout
        connection.out = memoryview(data)
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        connection.out = connection.out[sent:]
        if connection.out:
            self._await(connection, select.EPOLLOUT)
        elif connection.closing:
            self._linger(connection)
        else:
            rest = connection.next_request()
            connection.expires = time.monotonic() + self._settings.keep_alive
            if rest:  # what has come already goes before what will be read
                self._await(connection, 0)
                self._pipelined.append((connection, rest))
            elif connection.rests_until > time.monotonic():
                self._await(connection, 0)
                self._resting.append(connection)
            else:
                self._await(connection, READ)

    def _await(self, connection: Connection, events: int) -> None:
        """Be told of these events only."""
        if connection.events != events:
            connection.events = events
            self._poller.modify(connection.sock.fileno(), events)

    def _linger(self, connection: Connection) -> None:
        """Say that nothing more comes, and read on a while.

        To close with unread bytes resets the connection, and the client may lose the answer.
        """
        connection.stage = Stage.LINGERING
        connection.expires = time.monotonic() + LINGER_SECONDS
        try:
            connection.sock.shutdown(socket.SHUT_WR)
            self._await(connection, READ)
        except OSError:
            self._close(connection)

    # ---- ends --------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        for connection in [c for c in self._connections.values() if c.expires <= now]:
            stage = connection.stage
            if stage is Stage.BODY:
                seconds = self._settings.body_timeout
                self._refuse(
                    connection, BodyTimeout(f"the body was not all there after {seconds:g} s")
                )
            elif stage is Stage.HEAD:
                self._refuse(connection, BodyTimeout("the request's head came too slowly"))
            elif stage is Stage.WORKING:
                seconds, exchange = self._settings.request_timeout, self._exchange_of(connection)
                connection.closing = True
                self._refuse(
                    connection,
                    DeadlineExceeded(f"the request was not answered within {seconds:g} s"),
                )
                exchange.abandoned = True  # last: a thread that sees it counts the client as gone
            else:
                self._close(connection)

    def _count_connections(self) -> None:
        seat = self._service.seat
        seat.board.set_connections(seat.slot, len(self._connections))

    def _close_idlest(self) -> bool:
        """Make room: close the connection that would be closed next anyway, idle ones first."""
        idle = (c for c in self._connections.values() if c.stage in (Stage.IDLE, Stage.HEAD))
        idlest = min(idle, key=lambda c: (c.stage is Stage.HEAD, c.expires), default=None)
        if idlest is not None:
            self._close(idlest)
        return idlest is not None

    def _close(self, connection: Connection) -> None:
        exchange = self._exchange_of(connection)
        exchange.abandoned = True
        if connection.stage is Stage.BODY:
            gone = self._service.refuse(CallerGone("the body ended early"), exchange)
            self._service.finish_later(exchange, gone.status)
        self._forget_body(connection)
        connection.stage = Stage.CLOSED
        del self._connections[connection.sock.fileno()]
        self._count_connections()
        connection.close()  # which takes it out of the poller too

    def _forget_body(self, connection: Connection) -> None:
        """Give back the room of a body that nobody is to work on; work gives back its own."""
        self._buffered -= connection.body_size
        connection.body_size = 0

    def _begin_stop(self) -> None:
        """Take what the kernel has completed already, and then no more."""
        self._stopping = True
        for listener in self._listeners.values():
            self._accept(listener, at_once=self._max_connections)
            self._poller.unregister(listener)
            listener.close()
        self._listeners = {}
        soon = time.monotonic() + STOP_IDLE_SECONDS
        for connection in self._connections.values():
            if connection.stage is Stage.IDLE:
                connection.expires = min(connection.expires, soon)

    def _http_date(self) -> str:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True))
        return self._date[1]
