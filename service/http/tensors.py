"""Pixels that a request holds as numbers: in JSON, or as bytes.

Bodies may be large and hostile. JSON is read in pieces: no Python object is made for each number of
a whole body, no copy of all of it, and what does not have the expected shape ends at once.
"""

from collections.abc import Iterator
from math import prod
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from service.serving.errors import BadTensor, TooManyFiles

_BLANKS = b" \t\r\n"
_DIGITS = b"0123456789"
# So many bytes are looked at together.
_PIECE = 256 * 1024
_LARGEST = 255
_NUMBERS = msgspec.json.Decoder(list[Annotated[int, Meta(ge=0, le=_LARGEST)]])
_NOT_PIXELS = "the data have to be whole numbers from 0 to 255, without a sign or a decimal point"


def json_tensor(
    data: msgspec.Raw, shape: tuple[int, ...], *, flat: bool = False
) -> NDArray[np.uint8]:
    """The numbers of a JSON array, nested as a shape says.

    Args:
        data: well-formed JSON, as msgspec leaves it behind.
        shape: of at least one dimension; no larger than what a request may hold.
        flat: the numbers may be in one array, too, in row-major order.

    Returns:
        uint8 of this shape.

    Raises:
        BadTensor: it is nested otherwise, or has anything but whole numbers from 0 to 255 in it.
    """
    count = _count(data)
    if count == prod(shape):  # else its brackets need not be compared
        nestings = [_brackets(shape)] + ([_brackets((count,))] if flat else [])
        if _is_nested(data, nestings):
            return np.frombuffer(_numbers(data), np.uint8).reshape(shape)
    either = "one array of numbers, or " if flat else ""
    raise BadTensor(
        f"the data are not {either}arrays nested as {list(shape)}: {prod(shape)} numbers are"
        f" expected, {count} are there"
    )


def json_batch(
    data: msgspec.Raw, image_shape: tuple[int, ...], max_images: int
) -> NDArray[np.uint8]:
    """The same for as many images as there are.

    Args:
        data: as of ``json_tensor``.
        image_shape: of one image.
        max_images: how many may be there.

    Returns:
        uint8 [N, *image_shape].

    Raises:
        BadTensor: as of ``json_tensor``.
        TooManyFiles: there are more images.
    """
    count, size = _count(data), prod(image_shape)
    images = max(1, count // size)  # with too few or too many numbers it is refused
    check_count(images, max_images)
    return json_tensor(data, (images, *image_shape))


def check_count(images: int, max_images: int) -> None:
    """Refuse more images than a request may hold.

    Raises:
        TooManyFiles: there are more.
    """
    if images > max_images:
        raise TooManyFiles(f"the request holds {images} images, {max_images} are allowed")


def binary_tensor(body: bytes, start: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of a body from ``start`` to its end, as uint8 of this shape; nothing is copied.

    Raises:
        BadTensor: they are fewer or more.
    """
    found = len(body) - start
    if found != prod(shape):
        raise BadTensor(
            f"a tensor of shape {list(shape)} has {prod(shape)} bytes, {found} are there"
        )
    return np.frombuffer(body, np.uint8, offset=start).reshape(shape)


def _pieces(data: msgspec.Raw) -> Iterator[bytes]:
    view = memoryview(data)
    return (bytes(view[start : start + _PIECE]) for start in range(0, len(view), _PIECE))


def _count(data: msgspec.Raw) -> int:
    """How many numbers there are, if there is nothing else."""
    return sum(piece.count(b",") for piece in _pieces(data)) + 1


def _brackets(shape: tuple[int, ...]) -> bytes:
    """JSON of a tensor of this shape, without its numbers."""
    text = b""
    for size in reversed(shape):
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _is_nested(data: msgspec.Raw, nestings: list[bytes]) -> bool:
    """Whether numbers are nested in one of these ways.

    Raises:
        BadTensor: there is something else than digits.
    """
    start = 0
    for piece in _pieces(data):
        found = piece.translate(None, _BLANKS + _DIGITS)
        if found.translate(None, b"[],"):
            raise BadTensor(_NOT_PIXELS)
        nestings = [one for one in nestings if one.startswith(found, start)]
        start += len(found)
    return any(len(one) == start for one in nestings)


def _numbers(data: msgspec.Raw) -> bytes:
    """Each number as a byte, of arrays that hold nothing else."""
    numbers, rest = bytearray(), b""
    for piece in _pieces(data):
        text = rest + piece.translate(None, _BLANKS + b"[]")
        whole, _, rest = text.rpartition(b",")
        numbers += _bytes(whole)
        if len(rest) > len(str(_LARGEST)):
            raise BadTensor(_NOT_PIXELS)
    return bytes(numbers + _bytes(rest))


def _bytes(numbers: bytes) -> bytes:
    """Numbers with commas between them, each as a byte."""
    try:
        return bytes(_NUMBERS.decode(b"[" + numbers + b"]"))
    except msgspec.DecodeError as error:
        raise BadTensor(_NOT_PIXELS) from error
