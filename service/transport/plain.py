"""The plain way to run the application: gunicorn's own gthread worker, with our errors.

Everything that reaches the application is answered by it, as anywhere. What gunicorn's parser
refuses never does: that is answered here, in the one shape, counted and logged like the rest.
"""

import socket
import time
from contextlib import suppress
from email.utils import formatdate

from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.datastructures import Headers

from service.transport.connection import RECEIVE_BYTES
from service.transport.loop import LINGER_BYTES, LINGER_SECONDS
from service.transport.request import response_bytes
from service.transport.worker import one_clear_line
from service.web.service import service_of

_STATUS = {
    LimitRequestLine: 414,
    LimitRequestHeaders: 431,
    ExpectationFailed: 417,
    UnsupportedTransferCoding: 501,
}


class Worker(ThreadWorker):  # type: ignore[misc]
    """A thread per request, read by that thread."""

    def load_wsgi(self) -> None:
        """Make the application; one that cannot be made ends the service with one clear line."""
        with one_clear_line(self.log):
            super().load_wsgi()

    def handle(self, conn: TConn) -> object:
        """Answer a request, and let the client find the answer before the connection closes.

        gunicorn reads on for 64 KiB and 2 s, in the thread that accepts: clients that do not close
        would keep everybody else waiting.
        """
        again = super().handle(conn)
        if not again:
            with suppress(OSError):
                _linger(conn.sock)
        return again

    def handle_error(
        self,
        req: object,  # noqa: ARG002  gunicorn chose the parameters
        client: socket.socket,
        addr: object,  # noqa: ARG002
        exc: Exception,
    ) -> None:
        """Answer what the parser refuses, or what fails outside of the application."""
        service = service_of(self.wsgi)
        exchange = service.begin("-", Headers())
        if isinstance(exc, ParseException):
            answer = service.malformed(_STATUS.get(type(exc), 400), exc, exchange)
        else:
            answer = service.refusal(exc, exchange)
        service.settle()
        with suppress(OSError):
            client.sendall(response_bytes(answer, None, formatdate(usegmt=True), close=True))


def _linger(sock: socket.socket) -> None:
    """Say that nothing more comes, and throw away what still does, within bounds."""
    deadline = time.monotonic() + LINGER_SECONDS
    sock.shutdown(socket.SHUT_WR)
    read = 0
    try:
        while read < LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(RECEIVE_BYTES)
            if not data:
                break
            read += len(data)
    finally:
        sock.shutdown(socket.SHUT_RDWR)  # for gunicorn, which would read on
