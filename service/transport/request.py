"""One whole HTTP request, and the call of a WSGI application with it."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from service.web.exchange import Exchange
from service.web.service import Answer

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Set by the server itself on every answer.
_HOP_BY_HOP = ("connection", "content-length", "date", "transfer-encoding")


class Fields:
    """A request's header fields, found by name in any case.

    Werkzeug's ``Headers`` compare a name with every field there is; most that are asked for are not
    there at all.
    """

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str, default: str, /) -> str:
        """The first value of a name."""
        values = self._values.get(name.lower())
        return values[0] if values else default

    def getlist(self, name: str, /) -> list[str]:
        """All values of a name."""
        return self._values.get(name.lower(), [])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


class Head(NamedTuple):
    """A request up to its body."""

    method: str
    path: str
    query: str
    headers: Fields
    version: tuple[int, int]
    length: int | None
    keep_alive: bool

    @classmethod
    def of(cls, parser: Any) -> "Head":
        """The head that gunicorn's parser has just completed."""
        path, _, query = _origin_form(parser.path).partition(b"?")
        return cls(
            method=parser.method.decode("ascii"),
            # Werkzeug takes leading slashes for one: so does whoever picks a prediction's thread.
            path="/" + unquote_to_bytes(path).decode("latin-1").lstrip("/"),
            query=query.decode("latin-1"),
            headers=Fields(
                [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in parser.headers
                ]
            ),
            version=parser.http_version,
            length=parser.content_length,
            keep_alive=parser.should_keep_alive,
        )

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body (RFC 9110, 10.1.1)."""
        return self.version >= (1, 1) and self.headers.get("Expect", "").lower() == "100-continue"

    @property
    def expects_more(self) -> bool:
        """Whether it expects anything else: nothing else is known."""
        return (
            self.version >= (1, 1)
            and bool(self.headers.getlist("Expect"))
            and not (self.expects_continue)
        )


class Request(NamedTuple):
    """A request's head, and its record."""

    head: Head
    exchange: Exchange


def call_app(app: WsgiApp, head: Head, body: bytes, peer: str, extra: dict[str, Any]) -> Answer:
    """Answer a whole request with a WSGI application (PEP 3333).

    Args:
        app: the application.
        head: the request's head.
        body: all of its body.
        peer: the client's address.
        extra: further entries of the environment.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        started[:] = [(status, headers)]

    chunks = app(_environ(head, body, peer) | extra, start_response)
    try:
        content = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    return Answer(int(status.split(" ", 1)[0]), dict(headers), content)


def response_bytes(answer: Answer, head: Head | None, date: str, *, close: bool) -> bytes:
    """The answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
    lines += [
        f"{name}: {value}"
        for name, value in answer.headers.items()
        if name.lower() not in _HOP_BY_HOP
    ]
    lines.append(f"Date: {date}")
    without_body = head is not None and head.method == "HEAD"
    # What a GET would be answered with is the application's to know.
    announced = answer.headers.get("Content-Length") if without_body else None
    lines.append(f"Content-Length: {announced or len(answer.body)}")
    if close:
        lines.append("Connection: close")
    elif head is not None and head.version < (1, 1):
        lines.append("Connection: keep-alive")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if without_body else answer.body)


def _origin_form(target: bytes) -> bytes:
    """A request's target without the scheme and host that a proxy may send (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]


def _environ(head: Head, body: bytes, peer: str) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "SERVER_NAME": "labelserve",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": f"HTTP/{head.version[0]}.{head.version[1]}",
        "REMOTE_ADDR": peer,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in head.headers:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        # With an underscore, a header could pass for another one (as gunicorn's header_map=drop).
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING") and "_" not in name:
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


@cache  # there are some ten
def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
