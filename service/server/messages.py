"""Requests and responses as values; the call of a WSGI application with a whole request."""

import io
import sys
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from service.http.root_path import WsgiApp, split_root
from service.serving.responses import Response

# The server itself sets these on every response.
_HOP_BY_HOP = ("connection", "content-length", "date", "transfer-encoding")

# Statuses whose responses end with their head, whatever it says (RFC 9110, 15.3.5 and 15.4.5).
_NO_BODY = (204, 304)


class Fields:
    """A request's header fields, found by name in any case.

    A dict, because most names that are looked up are missing, and werkzeug's ``Headers`` compare a
    missing name with every field.
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
    """A request up to its body. ``root`` is the root path that was before ``path``, or empty."""

    method: str
    path: str
    query: str
    headers: Fields
    version: str
    length: int | None
    keep_alive: bool
    root: str = ""

    @classmethod
    def of(
        cls,
        method: bytes,
        target: bytes,
        fields: list[tuple[bytes, bytes]],
        version: str,
        *,
        keep_alive: bool,
    ) -> "Head":
        """The head from what the parser has found."""
        path, _, query = _origin_form(target).partition(b"?")
        headers = Fields(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        )
        length = headers.get("Content-Length", "")
        return cls(
            method=method.decode("ascii"),
            # As werkzeug reads it: several leading slashes are one.
            path="/" + unquote_to_bytes(path).decode("latin-1").lstrip("/"),
            query=query.decode("latin-1"),
            headers=headers,
            version=version,
            length=int(length) if length else None,
            keep_alive=keep_alive,
        )

    def below(self, root_path: str | None) -> "Head":
        """The head without the root path, where its path begins with it."""
        if root_path is None:
            return self
        root, path = split_root(root_path, self.path)
        return self._replace(root=root, path=path)

    @property
    def text_path(self) -> str:
        """The path as text: ``path`` holds a character for each byte (PEP 3333)."""
        path = self.path
        return path if path.isascii() else path.encode("latin-1").decode(errors="replace")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends the body (RFC 9110, 10.1.1)."""
        return self.version == "1.1" and self.headers.get("Expect", "").lower() == "100-continue"

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return bool(self.headers.getlist("Transfer-Encoding"))

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.is_chunked or bool(self.length)

    def refusal(self) -> tuple[int, str] | None:
        """Status and reason to refuse it for what HTTP allows and this server does not know."""
        if self.version not in ("1.0", "1.1"):
            return 400, f"HTTP/{self.version} is not spoken here"
        codings = [coding.lower() for coding in self.headers.getlist("Transfer-Encoding")]
        if codings and self.version == "1.0":
            return 400, "HTTP/1.0 has no transfer codings"
        if codings and codings != ["chunked"]:
            return 501, "the only transfer coding understood is chunked"
        expectations = self.headers.getlist("Expect")
        if self.version == "1.1" and expectations and not self.expects_continue:
            return 417, "the only expectation understood is 100-continue"
        return None


def call_app(app: WsgiApp, head: Head, body: bytes, peer: str, extra: dict[str, Any]) -> Response:
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
    return Response(int(status.split(" ", 1)[0]), dict(headers), content)


def response_bytes(response: Response, head: Head | None, date: str, *, close: bool) -> bytes:
    """The response as it goes over the wire; ``date`` as of RFC 9110, 5.6.7."""
    lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
    lines += [
        f"{name}: {value}"
        for name, value in response.headers.items()
        if name.lower() not in _HOP_BY_HOP
    ]
    lines.append(f"Date: {date}")
    without_body = head is not None and head.method == "HEAD"
    if response.status not in _NO_BODY:
        # The application knows what a GET would be answered with.
        announced = response.headers.get("Content-Length") if without_body else None
        lines.append(f"Content-Length: {announced or len(response.body)}")
    if close:
        lines.append("Connection: close")
    elif head is not None and head.version == "1.0":
        lines.append("Connection: keep-alive")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (
        b"" if without_body else response.body
    )


def _origin_form(target: bytes) -> bytes:
    """A request's target without the scheme and host that a proxy may send (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return target
    return b"/" + rest.partition(b"/")[2]


def _environ(head: Head, body: bytes, peer: str) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": head.root,
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "SERVER_NAME": "labelserve",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
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
        # A name with an underscore could pass for another one; gunicorn drops such headers too.
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING") and "_" not in name:
            key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


@cache
def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
