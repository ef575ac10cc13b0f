"""Reading a request's body within bytes and seconds, under a plain WSGI server.

The server's sockets have a read timeout (see ``gunicorn.conf.py``), which bounds one read. The sum
of many short reads is bounded here.
"""

import time
from typing import IO

from service.serving.errors import BadBody, BodyTimeout, BodyTooLarge

_CHUNK = 256 * 1024


def read_body(stream: IO[bytes], length: int | None, limit: int, seconds: float) -> bytes:
    """Read a whole body.

    Args:
        stream: ends where the body ends.
        length: its declared length; None for a chunked body.
        limit: bytes allowed.
        seconds: how long the whole of it may take.

    Raises:
        BodyTooLarge: more than ``limit`` bytes.
        BodyTimeout: not all there after ``seconds``.
        BadBody: it ended early, or its chunks are malformed.
    """
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    size = 0
    while part := _read_some(stream):
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes")
        parts.append(part)
        if time.monotonic() > deadline:
            raise BodyTimeout(f"the body was not all there after {seconds:g} s")
    if length is not None and size < length:
        raise BadBody(f"the body ended after {size} of {length} bytes")
    return b"".join(parts)


def _read_some(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_CHUNK)
    except (BlockingIOError, TimeoutError) as error:
        raise BodyTimeout("the body came too slowly") from error
    except OSError as error:
        raise BadBody("the connection ended before the body did") from error
