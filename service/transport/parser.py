"""gunicorn's HTTP parser, fed as bytes come: the one in C where it is installed, else Python's.

``gunicorn_h1c`` is published for Linux as source alone, and not every machine has a compiler. Both
parsers have one interface, and both are gunicorn's.
"""

from collections.abc import Callable
from typing import Any, Literal

import gunicorn.asgi.parser as python_parser

try:
    import gunicorn_h1c as c_parser
except ImportError:
    c_parser = None

Choice = Literal["auto", "fast", "python"]

LINE_BYTES = 8190
FIELDS = 100
FIELD_BYTES = 8190


class HeadTooLarge(Exception):
    """The head has more bytes than any head needs."""


class UnknownCoding(Exception):
    """The body's transfer coding is not chunked."""


class UnknownExpectation(Exception):
    """The client expects something other than ``100-continue``."""


# Whatever says that these bytes are not HTTP; gunicorn_h1c's errors are all ValueErrors.
MALFORMED = (
    ValueError,
    python_parser.ParseError,
    HeadTooLarge,
    UnknownCoding,
    UnknownExpectation,
)

_STATUS: dict[type[Exception], int] = {
    HeadTooLarge: 431,
    UnknownCoding: 501,
    UnknownExpectation: 417,
    python_parser.LimitRequestLine: 414,
    python_parser.LimitRequestHeaders: 431,
    python_parser.UnsupportedTransferCoding: 501,
}
if c_parser is not None:
    _STATUS |= {c_parser.LimitRequestLine: 414, c_parser.LimitRequestHeaders: 431}


def status_of(error: Exception) -> int:
    """The HTTP status of what one of ``MALFORMED`` says."""
    return _STATUS.get(type(error), 400)


def make_parser(
    choice: Choice, on_head: Callable[[], bool], on_body: Callable[[bytes], None]
) -> Any:
    """A parser for one connection.

    Args:
        choice: gunicorn's names: ``fast`` is C, ``python`` is Python, ``auto`` C if there is one.
        on_head: called when the head is complete; false, for there may be a body.
        on_body: called with each piece of the body.

    Raises:
        ImportError: ``fast`` is wanted and not installed.
    """
    if choice == "fast" and c_parser is None:
        raise ImportError("LABELSERVE_HTTP_PARSER=fast needs gunicorn_h1c, which is not installed")
    in_c = c_parser is not None and choice != "python"
    kind = c_parser.H1CProtocol if in_c else python_parser.PythonProtocol
    return kind(
        on_headers_complete=on_head,
        on_body=on_body,
        limit_request_line=LINE_BYTES,
        limit_request_fields=FIELDS,
        limit_request_field_size=FIELD_BYTES,
    )
