"""Image files as the elements of a tensor of BYTES."""

from collections.abc import Sequence
from struct import Struct

import msgspec
from msgspec import Raw

from service.inference.formats import detect_format
from service.serving.errors import BadTensor
from service.serving.json_bodies import decode_json
from service.serving.uploads import base64_image

_PREFIX = Struct("<I")
_SIGNATURE_BYTES = 256
_STRINGS = msgspec.json.Decoder(list[str])
_COLUMN = msgspec.json.Decoder(list[tuple[str]])


def base64_elements(data: Raw, count: int) -> Sequence[bytes]:
    """Strings of base64 in a JSON array, or each in an array of its own (shape [N, 1]).

    Raises:
        BadBody, BadTensor: they are something else, or not ``count``.
    """
    if bytes(data).count(b'"') > 2 * count:  # strings take memory, and base64 has no quote in it
        raise BadTensor(f"strings of base64 are expected, {count} by the shape: more are there")
    wanted = f"the data as {count} strings of base64"
    if bytes(data).count(b"[") > 1:
        found = [one for (one,) in decode_json(_COLUMN, data, wanted)]
    else:
        found = decode_json(_STRINGS, data, wanted)
    if len(found) != count:
        raise BadTensor(f"the data are {len(found)} strings, the shape says {count}")
    return [base64_image(one) for one in found]


def prefixed_elements(body: bytes, start: int, count: int) -> Sequence[bytes]:
    """Files from ``start`` to the end of a body, each behind its length (4 bytes, little endian).

    Raises:
        BadTensor: they do not add up.
    """
    found = []
    for _ in range(count):
        length = _prefix(body, start)
        if length is None or start + _PREFIX.size + length > len(body):
            break
        start += _PREFIX.size
        found.append(body[start : start + length])
        start += length
    if len(found) < count or start != len(body):
        raise BadTensor(
            f"the bytes behind the JSON are not {count} files, each behind its length in 4 bytes"
            " (little endian)"
        )
    return found


def single_element(body: bytes, start: int) -> bytes | None:
    """The file from ``start`` to the end of a body, if no length is before it.

    OVMS takes one file without its length where ``binary_data_size`` is left out.
    """
    prefix = _prefix(body, start)
    if prefix == len(body) - start - _PREFIX.size:
        return None
    is_image = detect_format(body[start : start + _SIGNATURE_BYTES]) is not None
    return body[start:] if is_image else None


def listed_elements(body: bytes, start: int, count: int, lengths: str) -> Sequence[bytes]:
    """Files from ``start`` to the end of a body, without anything between them.

    Args:
        body: the whole request's.
        start: where the first file begins.
        count: how many there have to be.
        lengths: of each, with commas between them.

    Raises:
        BadTensor: they do not add up.
    """
    found = []
    # No more are split than there may be, and no number is longer than a length can be.
    for length in lengths.split(",", count):
        digits = length.strip()
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 16):
            break
        found.append(body[start : start + int(digits)])
        start += int(digits)
    if len(found) != count or start != len(body):
        raise BadTensor(
            f"binary_data_size as text has to be the lengths of {count} files, as in '370,480',"
            " which are all of the bytes behind the JSON"
        )
    return found


def _prefix(body: bytes, start: int) -> int | None:
    if len(body) - start < _PREFIX.size:
        return None
    (length,) = _PREFIX.unpack_from(body, start)
    return int(length)
