"""Pixels that a request holds as numbers: in JSON, or as bytes.

Bodies may be large and hostile. No Python object is made for each number of a whole body, and what
does not have the expected shape is refused before its numbers are read.
"""

from math import prod
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from service.serving.errors import BadTensor, TooManyFiles

_BLANKS = b" \t\r\n"
_DIGITS = b"0123456789"
# So many bytes of numbers are read at once.
_PIECE = 256 * 1024
_NUMBERS = msgspec.json.Decoder(list[Annotated[int, Meta(ge=0, le=255)]])
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
    text = bytes(data)
    count = _count(text)
    if count == prod(shape):  # else its brackets need not be compared
        text = text.translate(None, _BLANKS)
        found = text.translate(None, _DIGITS)
        if found == _brackets(shape) or (flat and found == _brackets((count,))):
            numbers = _numbers(text.translate(None, b"[]"))
            return np.frombuffer(numbers, np.uint8).reshape(shape)
        if found.translate(None, b"[],"):
            raise BadTensor(_NOT_PIXELS)
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
    count, size = _count(bytes(data)), prod(image_shape)
    images = max(1, count // size)  # with too few or too many numbers it is refused
    if images > max_images:
        raise TooManyFiles(f"the request holds {images} images, {max_images} are allowed")
    return json_tensor(data, (images, *image_shape))


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


def _count(text: bytes) -> int:
    """How many numbers there are, if there is nothing else."""
    return text.count(b",") + 1


def _brackets(shape: tuple[int, ...]) -> bytes:
    """JSON of a tensor of this shape, without its numbers."""
    text = b""
    for size in reversed(shape):
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _numbers(text: bytes) -> bytes:
    """Numbers with commas between them, each as a byte."""
    found, start = [], 0
    while start < len(text):
        end = text.find(b",", start + _PIECE)
        end = len(text) if end < 0 else end
        try:
            found.append(bytes(_NUMBERS.decode(b"[" + text[start:end] + b"]")))
        except msgspec.DecodeError as error:
            raise BadTensor(_NOT_PIXELS) from error
        start = end + 1
    return b"".join(found)
