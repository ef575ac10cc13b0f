"""From a request's body to what its JSON says."""

from typing import TypeVar

import msgspec

from service.inference.formats import detect_format
from service.serving.errors import BadBody

T = TypeVar("T")

# Of what is wrong with it: a message may quote the client's own words.
_TOLD_CHARACTERS = 200
_HEAD_BYTES = 64


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, wanted: str) -> T:
    """Read JSON as the decoder's type.

    Args:
        decoder: of what is expected.
        body: the JSON text, however deep.
        wanted: what to send instead, for the client.

    Raises:
        BadBody: it is no JSON, or not of this type.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadBody(f"the JSON cannot be read: {_wrong(body, error)}; send {wanted}") from error


def _wrong(body: bytes | msgspec.Raw, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    found = detect_format(bytes(memoryview(body)[:_HEAD_BYTES]))
    return f"it is {found}" if found else str(error)[:_TOLD_CHARACTERS]
