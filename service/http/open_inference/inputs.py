"""The one input of a request, and its images: pixels or files, in JSON, behind it or alone."""

from collections.abc import Sequence
from math import prod

import msgspec
from msgspec import Raw

from service.http.open_inference.elements import (
    base64_elements,
    listed_elements,
    prefixed_elements,
    single_element,
)
from service.http.tensors import binary_tensor, check_count, json_tensor
from service.inference.contract import INPUT_NAME
from service.inference.formats import detect_format
from service.serving.errors import BadTensor
from service.serving.json_bodies import decode_json
from service.serving.pipeline import Source

JSON_LENGTH = "Inference-Header-Content-Length"
TENSOR = "UINT8"
FILES = "BYTES"

# A shape that is longer is hostile; it is not read. A refusal quotes less.
_SHAPE_BYTES = 1024
_TOLD_CHARACTERS = 64
_ABSENT = (Raw(), Raw(b"null"))
_SHAPE = msgspec.json.Decoder(list[int])


class InputParameters(msgspec.Struct, frozen=True):
    """How the input's data are sent.

    ``binary_data_size``: that they are behind the JSON, and how many bytes; as text, the lengths of
    image files that follow each other without more (OVMS until 2022).
    """

    binary_data_size: int | str | None = None


class Input(msgspec.Struct, frozen=True):
    """The input: pixels of the model's size (UINT8 [N, height, width, 3]) or files (BYTES [N])."""

    name: str
    datatype: str
    shape: Raw
    parameters: InputParameters | None = None
    data: Raw = Raw()


def raw_images(body: bytes, shape: tuple[int, ...], max_images: int) -> Sequence[Source]:
    """The images of a body that is the input itself: pixels by their number, else an image file.

    Args:
        body: not empty.
        shape: of one image's pixels.
        max_images: how many images may be there.

    Raises:
        TooManyFiles: there are more.
    """
    images, left = divmod(len(body), prod(shape))
    if left or detect_format(body):
        return (body,)
    check_count(images, max_images)
    return tuple(binary_tensor(body, 0, (images, *shape)))


class InputReader:
    """The images of an input.

    Args:
        tensor: what the JSON says of it.
        body: the whole request's.
        start: where the bytes behind the JSON begin.
        shape: of one image's pixels.
        max_images: how many images may be there.
    """

    def __init__(
        self, tensor: Input, body: bytes, start: int, shape: tuple[int, ...], max_images: int
    ) -> None:
        self._tensor = tensor
        self._body = body
        self._start = start
        self._shape = shape
        self._max_images = max_images
        self._data = None if tensor.data in _ABSENT else tensor.data
        self._size = tensor.parameters.binary_data_size if tensor.parameters else None

    def images(self) -> Sequence[Source]:
        """All of them.

        Raises:
            BadBody, BadTensor: they are not what the model takes, or not where they should be.
            TooManyFiles: there are more than allowed.
        """
        tensor = self._tensor
        if tensor.name != INPUT_NAME:
            name = tensor.name[:_TOLD_CHARACTERS]
            raise BadTensor(f"the model has one input, {INPUT_NAME!r}, and no {name!r}")
        count = self._count()
        self._check_size()
        if tensor.datatype == FILES:
            return self._files(count)
        shape = (count, *self._shape)
        if self._data is not None:
            return tuple(json_tensor(self._data, shape, flat=True))
        return tuple(binary_tensor(self._body, self._start, shape))

    def _count(self) -> int:
        """How many images the shape promises."""
        text, datatype = self._tensor.shape, self._tensor.datatype
        shape = decode_json(_SHAPE, text, '"shape": [1, …]') if len(text) < _SHAPE_BYTES else []
        rest = {TENSOR: (list(self._shape),), FILES: ([], [1])}.get(datatype, ())
        if not shape or shape[0] < 1 or shape[1:] not in rest:
            beginning = bytes(memoryview(text)[:_TOLD_CHARACTERS]).decode(errors="replace")
            found = f"{datatype} {beginning}"[:_TOLD_CHARACTERS]
            dimensions = ", ".join(map(str, self._shape))
            raise BadTensor(
                f"the model does not take {found}: send {TENSOR} [N, {dimensions}] for pixels, or"
                f" {FILES} [N] for image files"
            )
        check_count(shape[0], self._max_images)
        return shape[0]

    def _check_size(self) -> None:
        """Data in one place, and there as many as announced."""
        behind = len(self._body) - self._start
        if self._data is not None:
            if behind or self._size is not None:
                raise BadTensor("the input has data in the JSON and behind it: send one of them")
        elif not behind and self._size is None:
            raise BadTensor(
                f"the input has no data: send them in the JSON, or behind it with {JSON_LENGTH}"
            )
        elif isinstance(self._size, int) and self._size != behind:
            raise BadTensor(
                f"binary_data_size is {self._size}, and {behind} bytes are behind the JSON, which"
                f" ends where {JSON_LENGTH} says"
            )

    def _files(self, count: int) -> Sequence[Source]:
        if self._data is not None:
            return base64_elements(self._data, count)
        if isinstance(self._size, str):
            return listed_elements(self._body, self._start, count, self._size)
        if self._size is None and count == 1:
            whole = single_element(self._body, self._start)
            if whole is not None:
                return (whole,)
        return prefixed_elements(self._body, self._start, count)
