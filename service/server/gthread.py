"""gunicorn's own gthread worker, with this service's errors.

The application answers everything that reaches it. What gunicorn's parser refuses never does: that
is answered here, in the one shape, counted and logged like the rest.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from typing import IO, Any

from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.datastructures import Headers

from service.http.current import service_of
from service.http.root_path import WsgiApp
from service.server.messages import response_bytes
from service.server.protocol import LINGER_BYTES, LINGER_SECONDS
from service.server.worker import one_clear_line
from service.serving import responses
from service.serving.context import RequestContext
from service.serving.errors import BadBody

_RECEIVE_BYTES = 64 * 1024

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
        self.wsgi.wsgi_app = _with_our_requests(self.wsgi.wsgi_app)

    def run(self) -> None:
        """Serve until told to stop; the shadow, which follows answers, ends with them."""
        try:
            super().run()
        finally:
            service_of(self.wsgi).shadow.stop()

    def handle(self, conn: TConn) -> object:
        """Answer a request, and let the client find the answer before the connection closes.

        Each of its reads is bounded: gunicorn has no timeout of its own.

        gunicorn reads on for 64 KiB and 2 s, in the thread that accepts: clients that do not close
        would keep all others waiting.
        """
        seconds = service_of(self.wsgi).settings.body_timeout
        timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
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
        context = RequestContext.begin("-", Headers(), service.settings)
        if isinstance(exc, ParseException):
            response = responses.status_response(_STATUS.get(type(exc), 400), str(exc), context)
        else:
            response = responses.error_response(exc, context)
        service.accounting.add(context, response.status)
        service.accounting.flush()
        with suppress(OSError):
            client.sendall(response_bytes(response, None, formatdate(usegmt=True), close=True))


class _Body:
    """A body whose malformed chunks are the application's ``BadBody``."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """Read as from the stream.

        Raises:
            BadBody: its chunks are malformed.
        """
        try:
            return self._stream.read(size)
        except ParseException as error:
            raise BadBody(f"the body is malformed: {error}") from error


def _with_our_requests(app: WsgiApp) -> WsgiApp:
    """An application whose requests are as those of the other worker."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        # A target without a path asks for the root (RFC 9110, 4.2.3); werkzeug would redirect it.
        environ["PATH_INFO"] = environ["PATH_INFO"] or "/"
        return app(environ, start_response)

    return call


def _linger(sock: socket.socket) -> None:
    """Half close, and throw away what still comes, within bounds."""
    deadline = time.monotonic() + LINGER_SECONDS
    sock.shutdown(socket.SHUT_WR)
    read = 0
    try:
        while read < LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(_RECEIVE_BYTES)
            if not data:
                break
            read += len(data)
    finally:
        sock.shutdown(socket.SHUT_RDWR)  # for gunicorn, which would read on
