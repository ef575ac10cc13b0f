"""One connection's life: bytes become whole requests, responses become bytes.

A connection works on one request at a time, in the order in which they came. ``Stage`` says where
it stands, and ``_expires`` how long that may last. What all connections of a worker share (limits,
the buffer, the threads) is in ``connections``.
"""

import asyncio
import sys
import time
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Protocol, cast

import httptools

from service.http.endpoints import Endpoints, Found
from service.runtime.traces import Traces
from service.server.messages import Fields, Head, response_bytes
from service.serving import responses
from service.serving.admission import Admission
from service.serving.context import RequestContext
from service.serving.errors import (
    BadBody,
    BodyTimeout,
    BodyTooLarge,
    ClientDisconnected,
    DeadlineExceeded,
    Overloaded,
    RequestError,
)
from service.serving.responses import Response
from service.settings import Settings

# Bounds on a request's head, as usual among servers.
TARGET_BYTES = 8190
FIELDS = 100
# A head's target and its other fields, beside the largest field: 32 KiB in all by default.
OTHER_HEAD_BYTES = 32 * 1024 - 8190
# A body on a route that takes none.
OTHER_BODY_BYTES = 64 * 1024
# How long an answered client may go on sending what is thrown away, and how much of it.
LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024

# Every response begins so. To a client that sends nothing more this much is written ahead, a byte
# after PROBE_SECONDS and each next one after twice as long.
BEGINNING = b"HTTP/1.1 "
PROBE_SECONDS = 0.02

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stage(Enum):
    """Where a connection stands."""

    IDLE = auto()  # nothing of a request has come
    HEAD = auto()
    BODY = auto()
    WORKING = auto()  # the request is whole, and its answer is being made
    WRITING = auto()
    LINGERING = auto()  # answered and half closed; what still comes is thrown away
    CLOSED = auto()


class Malformed(Exception):
    """The bytes are not HTTP as this server reads it: a status, and the reason as the message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Incoming:
    """A request as it comes: first its head, then its body.

    ``context`` is None, and ``body_limit`` not known, until the request's turn comes. ``found`` is
    the route that it is for, if that takes images. ``size``
    counts the bytes of the body, ``held`` those that count against the buffer that all connections
    share; while the request is ``in_work``, they are not given back. ``last``: the connection ends
    behind it. ``error`` is what is wrong with it.
    """

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.head_size = 0
        self.head: Head | None = None
        self.context: RequestContext | None = None
        self.found: Found | None = None
        self.body_limit = sys.maxsize
        self.size = self.held = 0
        self.whole = self.last = self.in_work = False
        self.error: Malformed | RequestError | None = None
        self._first = b""
        self._more: bytearray | None = None

    def add(self, data: bytes) -> None:
        """Keep a piece of the body. Tiny chunks are joined: objects cost more than their bytes."""
        if not self._first:
            self._first = data
        elif self._more is None:
            self._more = bytearray(self._first + data)
        else:
            self._more += data

    def take_body(self) -> bytes:
        """The body, which is then forgotten here."""
        body = self._first if self._more is None else bytes(self._more)
        self._first, self._more = b"", None
        return body


class Shared(Protocol):
    """What a connection asks of the keeper of all connections of its worker."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    endpoints: Endpoints
    admission: Admission
    traces: Traces | None
    buffered: int  # bytes of bodies, of all connections
    stopping: bool

    def work(self, connection: "Connection", incoming: Incoming, /) -> None:
        """Have a whole request answered, by a call of ``connection.worked``."""

    def account(self, context: RequestContext, status: int, /) -> None:
        """Have an answered request counted and logged."""

    def release(self, incoming: Incoming, /) -> None:
        """Give back the room of a body."""

    def make_room(self, newcomer: "Connection", /) -> Overloaded | None:
        """Why a body has to be refused for want of room."""

    def throttle(self) -> float:
        """After such a refusal: until when the client is not read (monotonic clock)."""

    def forget(self, connection: "Connection", /) -> None:
        """A connection is closed."""

    def http_date(self) -> str:
        """The time now, for a response."""


class Connection(asyncio.Protocol):
    """A client; asyncio calls what has no underscore, httptools what begins with ``on_``."""

    def __init__(self, shared: Shared, peer: str) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._field_limit = shared.settings.max_header_bytes
        self._head_limit = self._field_limit + OTHER_HEAD_BYTES
        self.peer = peer
        self.stage = Stage.IDLE
        self.throttled_until = 0.0
        self.expires = time.monotonic() + self._settings.head_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._requests: deque[Incoming] = deque()
        self._head_bytes = 0  # bytes that have come of an unfinished head, after the first ones
        self._head_again = False  # the parser is fed a head that has been here already
        self._deaf = False  # nothing more is parsed
        self._closing = False
        self._ended = False  # the client sends nothing more
        self._probe: asyncio.TimerHandle | None = None
        self._probed = 0  # bytes of the response that are written already
        self._write_paused = False
        self._advancing = False
        self._lingered = 0

    # ---- asyncio's calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast(asyncio.Transport, transport)
        if self.stage is Stage.CLOSED:
            self._transport.abort()
            return
        # Told of every byte that the socket does not take at once: a response is written, or not.
        self._transport.set_write_buffer_limits(high=0)
        self._watch_time()

    def data_received(self, data: bytes) -> None:
        """Bytes have come. A bug costs this connection's client a 500, and no other client."""
        if self.stage is Stage.LINGERING:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.close()
            return
        try:
            self._parse(data)
            self._advance()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def eof_received(self) -> bool:
        """The client sends nothing more; whether the connection stays open for the answer.

        A half-closed connection is one whose client waits for the answer (RFC 9112).
        """
        self._ended = True
        if self.stage is Stage.WRITING:
            return True
        if self.stage is Stage.WORKING:
            self._probe_later()
            return True
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is gone."""
        self.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as is written."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The client has read everything."""
        self._write_paused = False
        if self.stage is Stage.WRITING:
            try:
                self._written()
                self._advance()
            except Exception as error:  # noqa: BLE001
                self._fail(error)

    # ---- parsing -----------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if self._deaf:
            return
        begun = self._unfinished_head()
        rest = memoryview(data)
        while rest and not self._deaf:
            rest = self._feed(rest)
        # The parser keeps a field until it is complete, however long it is.
        if begun is None or begun is not self._unfinished_head():
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > self._head_limit and begun.error is None:
            self._deaf = True
            begun.error = self._head_too_large()

    def _feed(self, data: memoryview) -> memoryview:
        """Parse bytes; those behind the head of a request that offers another protocol are left."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(self._requests[-1])
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._deaf = True
            self._on_malformed(error)
        return data[:0]

    def _decline_upgrade(self, incoming: Incoming) -> None:
        """Go on with HTTP/1.1, except behind CONNECT.

        httptools takes what follows for the other protocol's, a body included: to parse that as a
        request would let a client smuggle one past a proxy. A new parser is told of the body.
        """
        head = incoming.head
        if head is None or head.method == "CONNECT":
            self._deaf = incoming.last = True
            return
        self._parser = httptools.HttpRequestParser(self)
        if not incoming.whole:
            chunked = "Transfer-Encoding: chunked"
            framing = chunked if head.is_chunked else f"Content-Length: {head.length}"
            self._head_again = True
            self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode())
            self._head_again = False

    def _unfinished_head(self) -> Incoming | None:
        """The request whose head is coming."""
        last = self._requests[-1] if self._requests else None
        return last if last is not None and last.head is None else None

    def _on_malformed(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__:
            raise error.__context__  # a bug in a callback, not the client's fault
        last = self._requests[-1] if self._requests else None
        if last is not None and last.whole:
            if last.last:
                return  # what a client sends after its last request is ignored
            last = None
        if last is None:
            last = Incoming()
            self._requests.append(last)
        if last.error is None:
            bad_body = last.head is not None
            last.error = (
                BadBody(f"the body is malformed: {error}")
                if bad_body
                else Malformed(400, f"the request is malformed: {error}")
            )

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self._head_again:
            self._requests.append(Incoming())

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if self._head_again:
            return
        incoming = self._requests[-1]
        incoming.target += url
        incoming.head_size += len(url)
        if len(incoming.target) > TARGET_BYTES and incoming.error is None:
            incoming.error = Malformed(414, f"the target has more than {TARGET_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or a trailer behind the chunks, which is not kept."""
        if self._head_again:
            return
        incoming = self._requests[-1]
        incoming.head_size += len(name) + len(value) + 4
        if incoming.error is not None:
            return
        if incoming.head is not None:
            if incoming.head_size > self._head_limit:
                incoming.error = BadBody("the trailers have too many bytes")
            return
        incoming.fields.append((name, value))
        if len(incoming.fields) > FIELDS:
            incoming.error = Malformed(431, f"the head has more than {FIELDS} fields")
        elif len(name) + len(value) > self._field_limit:
            incoming.error = Malformed(431, f"a field has more than {self._field_limit} bytes")
        elif incoming.head_size > self._head_limit:
            incoming.error = self._head_too_large()

    def _head_too_large(self) -> Malformed:
        return Malformed(431, f"the request's head has more than {self._head_limit} bytes")

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self._head_again:
            return
        incoming, parser = self._requests[-1], self._parser
        if incoming.error is None:
            incoming.head = head = Head.of(
                parser.get_method(),
                incoming.target,
                incoming.fields,
                parser.get_http_version(),
                keep_alive=parser.should_keep_alive(),
            ).below(self._settings.root_path)
            refusal = head.refusal()
            if refusal is not None:
                incoming.error = Malformed(*refusal)
            incoming.target = b""
        incoming.fields = []
        if incoming is self._requests[0] and incoming.error is None:
            self._begin(incoming)

    def on_body(self, body: bytes) -> None:
        """A piece of the body. What is over the limit is counted, and not kept."""
        incoming = self._requests[-1]
        incoming.size += len(body)
        if incoming.error is None and incoming.size <= incoming.body_limit:
            incoming.add(body)
            incoming.held += len(body)
            self._shared.buffered += len(body)

    def on_message_complete(self) -> None:
        """The request is whole; one that offers another protocol may still have a body."""
        incoming = self._requests[-1]
        if incoming.head is not None and incoming.head.has_body and self._parser.should_upgrade():
            return
        incoming.whole = True
        incoming.last = incoming.head is None or not incoming.head.keep_alive
        self._deaf |= incoming.last

    # ---- one request after the other ---------------------------------------------------------

    def _advance(self) -> None:
        """Go on with the first request as far as it has come, and with the next if it is answered.

        A loop, and not a recursion: one read can hold hundreds of requests that are refused.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._requests and self.stage in (Stage.IDLE, Stage.HEAD, Stage.BODY):
                if not self._go_on(self._requests[0]):
                    break
        finally:
            self._advancing = False
        if self._ended and self.stage in (Stage.IDLE, Stage.HEAD, Stage.BODY):
            self.close()  # the rest of a request will not come
        self._read_on()

    def _go_on(self, incoming: Incoming) -> bool:
        """Take the first request one step further; False if more of it has to come."""
        if incoming.error is None and incoming.head is not None and incoming.context is None:
            self._begin(incoming)
        if incoming.error is not None:
            self._refuse(incoming, incoming.error)
            return True
        if incoming.head is None:
            if self.stage is not Stage.HEAD:
                self.stage = Stage.HEAD
                self._expire_in(self._settings.head_timeout)
            return False
        if incoming.size > incoming.body_limit:
            self._refuse_large(incoming)
            return True
        if incoming.held:
            full = self._shared.make_room(self)
            if full is not None:
                self._refuse(incoming, full)
                return True
        if not incoming.whole:
            if self.stage is not Stage.BODY:
                self._await_body(incoming)
            return False
        self._dispatch(incoming)
        return True

    def _begin(self, incoming: Incoming) -> None:
        """The head's turn: may the body come?"""
        head = incoming.head
        assert head is not None  # noqa: S101
        endpoints = self._shared.endpoints
        incoming.context = context = RequestContext.begin(
            head.method, head.headers, self._settings, head.text_path, self._shared.traces
        )
        incoming.found = found = endpoints.find(head.method, head.text_path)
        if found is None:
            incoming.body_limit = OTHER_BODY_BYTES
            return
        context.route = found.endpoint.route
        try:
            incoming.body_limit = endpoints.check_head(
                found, head.query, head.headers, head.length, context
            )
        except RequestError as error:
            incoming.error = error

    def _await_body(self, incoming: Incoming) -> None:
        self.stage = Stage.BODY
        self._expire_in(self._settings.body_timeout)
        if incoming.head is not None and incoming.head.expects_continue and not incoming.size:
            self._write(CONTINUE)

    def _refuse_large(self, incoming: Incoming) -> None:
        if incoming.found is not None:
            self._refuse(
                incoming, BodyTooLarge(f"the body has more than {incoming.body_limit} bytes")
            )
            return
        # No route reads it: whether there is such a route matters more.
        incoming.take_body()
        self._dispatch(incoming)

    def _dispatch(self, incoming: Incoming) -> None:
        """Have the first request answered."""
        context = incoming.context
        assert context is not None  # noqa: S101
        if incoming.found is not None:
            try:
                background = incoming.found.endpoint.background
                self._shared.admission.enter(context, background=background)
            except Overloaded as error:
                self._refuse(incoming, error)
                return
        self.stage = Stage.WORKING
        self._expire_at(context.deadline)
        if self._ended:
            self._probe_later()
        self._shared.work(self, incoming)

    def worked(self, incoming: Incoming, response: Response) -> None:
        """The response to a request is there; its client may be gone, or told that it is late."""
        if self.stage is not Stage.WORKING or self._requests[0] is not incoming:
            return
        try:
            self._respond(incoming, response)
            self._advance()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _read_on(self) -> None:
        """Read more bytes, unless requests wait already or the client is throttled."""
        transport = self._transport
        if transport is None or self.stage is Stage.CLOSED or transport.is_closing():
            return
        waits = len(self._requests) > 1
        throttled = self.stage is Stage.IDLE and self.throttled_until > time.monotonic()
        if throttled:
            delay = self.throttled_until - time.monotonic()
            self._shared.loop.call_later(delay, self._read_on)
        if (waits or throttled) and transport.is_reading():
            transport.pause_reading()
        elif not (waits or throttled) and not transport.is_reading() and not self._ended:
            transport.resume_reading()

    # ---- responses ---------------------------------------------------------------------------

    def refuse(self, error: RequestError) -> None:
        """Refuse the request whose body is coming."""
        self._refuse(self._requests[0], error)
        self._advance()

    def _refuse(self, incoming: Incoming, error: Malformed | RequestError) -> None:
        """Answer without the application."""
        if isinstance(error, Overloaded):
            self.throttled_until = self._shared.throttle()
        context = self.context_of(incoming)
        if isinstance(error, Malformed):
            self._closing = True  # where the next request would begin is not certain
            response = responses.status_response(error.status, str(error), context)
        else:
            response = responses.error_response(error, context)
        self._shared.account(context, response.status)
        self._respond(incoming, response)

    def _fail(self, error: Exception) -> None:
        """A bug of ours: this client gets a 500, the others are not touched."""
        self._deaf = self._closing = True
        context = self.context_of(self._requests[0]) if self._requests else self.context_of()
        response = responses.error_response(error, context)
        self._shared.account(context, response.status)
        if self.stage in (Stage.IDLE, Stage.HEAD, Stage.BODY, Stage.WORKING):
            with suppress(Exception):
                self._respond(self._requests[0] if self._requests else Incoming(), response)
                return
        self.close()

    def context_of(self, incoming: Incoming | None = None) -> RequestContext:
        """A request's context; one that begins now where not all of its head is known."""
        if incoming is not None and incoming.context is not None:
            return incoming.context
        path = "" if incoming is None else self._path_of(incoming)
        return RequestContext.begin("-", Fields([]), self._settings, path)

    def _path_of(self, incoming: Incoming) -> str:
        """Whose clients read a refusal of what is known of a request."""
        if incoming.head is not None:
            return incoming.head.path
        head = Head.of(b"-", incoming.target, [], "", keep_alive=False)
        return head.below(self._settings.root_path).path

    def _respond(self, incoming: Incoming, response: Response) -> None:
        self._closing |= (
            self._shared.stopping
            or incoming.head is None
            or not incoming.whole
            or incoming.last
            or (self._ended and len(self._requests) == 1)
        )
        self._deaf |= self._closing
        date = self._shared.http_date()
        data = response_bytes(response, incoming.head, date, close=self._closing)[self._probed :]
        self._stop_probing()
        self._shared.release(incoming)
        self.stage = Stage.WRITING
        self._expire_in(self._settings.body_timeout)
        self._write(data)
        if not self._write_paused:
            self._written()

    def _probe_later(self) -> None:
        """Begin the response, a byte at a time: has the client closed, or half closed?

        Nothing but a write can tell: who has closed resets the connection, and the work is dropped.
        """
        delay = PROBE_SECONDS * 2**self._probed
        self._probe = self._shared.loop.call_later(delay, self._write_probe)

    def _write_probe(self) -> None:
        self._write(BEGINNING[self._probed : self._probed + 1])
        self._probed += 1
        if self._probed < len(BEGINNING):
            self._probe_later()

    def _stop_probing(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
        self._probe, self._probed = None, 0

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _written(self) -> None:
        """The response is on its way."""
        if self._closing:
            self._linger()
            return
        self._requests.popleft()
        self.stage = Stage.IDLE
        self._expire_in(self._settings.keep_alive)

    def _linger(self) -> None:
        """Say that nothing more comes, and read on for a while.

        To close with unread bytes resets the connection, and the client may lose the response.
        """
        transport = self._transport
        if self._ended or transport is None or transport.is_closing():
            self.close()
            return
        self.stage = Stage.LINGERING
        self._drop_requests()
        self._expire_in(LINGER_SECONDS)
        try:
            transport.write_eof()
            if not transport.is_reading():
                transport.resume_reading()
        except (OSError, RuntimeError):
            self.close()

    # ---- time --------------------------------------------------------------------------------

    def _expire_in(self, seconds: float) -> None:
        self._expire_at(time.monotonic() + seconds)

    def _expire_at(self, moment: float) -> None:
        self.expires = moment
        if self._timer is None or moment < self._timer_at:
            self._watch_time()

    def _watch_time(self) -> None:
        """One timer for each connection, which is made anew only for an earlier moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self.expires
        delay = max(0.0, self.expires - time.monotonic())
        self._timer = self._shared.loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.stage is Stage.CLOSED:
            return
        if self.expires > time.monotonic():
            self._watch_time()
            return
        try:
            self._expire()
            self._advance()
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _expire(self) -> None:
        settings = self._settings
        if self.stage is Stage.BODY:
            seconds = settings.body_timeout
            error = BodyTimeout(f"the body was not all there after {seconds:g} s")
            self._refuse(self._requests[0], error)
        elif self.stage is Stage.HEAD:
            self._refuse(self._requests[0], BodyTimeout("the request's head came too slowly"))
        elif self.stage is Stage.WORKING:
            self._closing = True
            context = self.context_of(self._requests[0])
            seconds = settings.request_timeout
            late = DeadlineExceeded(f"the request was not answered within {seconds:g} s")
            self._refuse(self._requests[0], late)
            context.abandoned = True  # last: a thread that sees it counts a disconnected client
        else:
            self.close()

    def stop_idling(self, seconds: float) -> None:
        """The service stops: an idle connection may last this long."""
        if self.stage is Stage.IDLE:
            self._expire_at(min(self.expires, time.monotonic() + seconds))

    # ---- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket, whatever is under way; closing twice does nothing."""
        if self.stage is Stage.CLOSED:
            return
        stage, self.stage = self.stage, Stage.CLOSED
        self._deaf = True
        if self._timer is not None:
            self._timer.cancel()
        self._stop_probing()
        if stage is Stage.BODY:
            context = self.context_of(self._requests[0])
            gone = responses.error_response(ClientDisconnected("the body ended early"), context)
            self._shared.account(context, gone.status)
        for incoming in self._requests:
            if incoming.context is not None:
                incoming.context.abandoned = True
        self._drop_requests()
        self._shared.forget(self)
        if self._transport is not None:
            self._transport.abort()
        self._parser = self._transport = None  # both hold this connection

    def _drop_requests(self) -> None:
        for incoming in self._requests:
            self._shared.release(incoming)
        self._requests.clear()

    @property
    def body_size(self) -> int:
        """Bytes held of the body that is coming."""
        return self._requests[0].held if self._requests else 0
