"""One client: bytes in become a whole request, an answer becomes bytes out."""

import select
import socket
from enum import Enum, auto
from typing import Any

from service.transport.parser import (
    MALFORMED,
    Choice,
    HeadTooLarge,
    UnknownCoding,
    UnknownExpectation,
    make_parser,
)
from service.transport.request import Head, Request
from service.web.errors import BadBody, BodyTooLarge

# The parser keeps no more than this of what comes behind a request: what is beyond would be lost.
RECEIVE_BYTES = 64 * 1024
HEAD_BYTES = 32 * 1024
# What the loop waits for while a request is read: bytes, or the client's end.
READ = select.EPOLLIN | select.EPOLLRDHUP
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stage(Enum):
    """Where a connection stands."""

    IDLE = auto()  # nothing of a request has come
    HEAD = auto()
    BODY = auto()
    WORKING = auto()  # the request is whole and somebody works on its answer
    WRITING = auto()
    LINGERING = auto()  # answered and half closed; what still comes is thrown away
    CLOSED = auto()


class Connection:
    """A socket, its parser, and how long its stage may last (``expires``, monotonic clock).

    ``rests_until``: when it is read again, after it has been turned away too often.
    """

    def __init__(self, sock: socket.socket, peer: str, expires: float, parser: Choice) -> None:
        self.sock = sock
        self.peer = peer
        self.expires = expires
        self.rests_until = 0.0
        self.stage = Stage.IDLE
        self.request: Request | None = None
        self.body_limit = 0
        self.body_size = 0
        self.closing = False
        self.events = READ
        self.out = memoryview(b"")
        self.lingered = 0
        self._body: list[bytes] = []
        self._malformed: Exception | None = None
        self._head_done = False
        self._head_size = 0
        self._received: list[bytes] = []  # of a request, until its head is complete
        self._choice = parser
        self._parser: Any = make_parser(parser, self._on_head, self._on_body)

    def feed(self, data: bytes) -> Head | None:
        """Take bytes; the head if it has just become complete.

        Raises:
            MALFORMED: one of them: not HTTP, or more of a head than is read.
            BadBody, BodyTooLarge: as ``check_body`` says.
        """
        if self.stage is not Stage.BODY:
            self._received.append(data)
        self._parse(data)
        if not self._head_done:
            self.stage = Stage.HEAD
            self._head_size += len(data)
            if self._head_size > HEAD_BYTES:
                raise HeadTooLarge(f"the request's head has more than {HEAD_BYTES} bytes")
            return None
        if self.stage is Stage.BODY:
            self.check_body()
            return None
        self.stage = Stage.BODY
        head = Head.of(self._parser)
        # gunicorn_h1c before 0.6.14 frames any other coding as an empty body.
        codings = [coding.lower() for coding in head.headers.getlist("Transfer-Encoding")]
        if codings and (codings != ["chunked"] or not self._parser.is_chunked):
            raise UnknownCoding("the only transfer coding understood is chunked")
        if head.expects_more:
            raise UnknownExpectation("the only expectation understood is 100-continue")
        if codings:
            self._parse_again_in_python()
        self._received = []
        return head

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except MALFORMED as error:
            if not self._head_done:
                raise
            self._malformed = error

    def _parse_again_in_python(self) -> None:
        """Give a chunked request to the parser in Python, from its first byte.

        gunicorn_h1c 0.6.9 takes the size of a chunk modulo 2**64: where the body ends for it, it
        does not end for a proxy in front, and what follows could be smuggled in as a request.
        """
        self._body, self.body_size, self._malformed = [], 0, None
        self._parser = make_parser("python", self._on_head, self._on_body)
        self._parse(b"".join(self._received))

    def check_body(self) -> None:
        """Hold the body so far against its limit.

        Raises:
            BodyTooLarge: it is over.
            BadBody: its chunks are malformed.
        """
        if self._malformed is not None:
            raise BadBody(f"the body is malformed: {self._malformed}")
        if self.body_size > self.body_limit:
            raise BodyTooLarge(f"the body has more than {self.body_limit} bytes")

    @property
    def whole(self) -> bool:
        """Whether all of the request is there."""
        return bool(self._parser.is_complete)

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        if self.request is None or self.whole or self.body_size:
            return False
        return self.request.head.expects_continue

    def take_body(self) -> bytes:
        """The body, which the connection then forgets."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self.body_size = 0
        return body

    def next_request(self) -> bytes:
        """Be ready for another request; what has come of it already."""
        rest: bytes = self._parser.remaining() if self.whole else b""
        if self.request is not None and self.request.head.headers.getlist("Transfer-Encoding"):
            self._parser = make_parser(self._choice, self._on_head, self._on_body)
        else:
            self._parser.reset()
        self.stage = Stage.IDLE
        self.request = None
        self.body_size = self._head_size = 0
        self._body = []
        self._head_done = False
        return rest

    def _on_head(self) -> bool:
        self._head_done = True
        return False  # there may be a body

    def _on_body(self, chunk: bytes) -> None:
        self.body_size += len(chunk)
        # What is over the limit is counted, and not kept.
        if self.request is None or self.body_size <= self.body_limit:
            self._body.append(chunk)

    def close(self) -> None:
        """Close the socket; the parser's callbacks would keep the connection alive."""
        self.sock.close()
        self._parser = None
        self._body = []
