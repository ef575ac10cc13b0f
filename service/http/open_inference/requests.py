"""What a request for predictions says: its images, and how they are to be answered.

A request is JSON. Behind it the numbers, or the image files, of its one input may stand as bytes;
the header ``Inference-Header-Content-Length`` says then where they begin (Triton's extension
``binary_tensor_data``). With 0 there is no JSON: all of the body is the input.
"""

import re
from collections.abc import Sequence
from math import prod
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw

from service.http.open_inference.elements import (
    base64_elements,
    listed_elements,
    prefixed_elements,
    single_element,
)
from service.http.tensors import binary_tensor, json_tensor
from service.inference.contract import INPUT_NAME, OUTPUT_NAME
from service.inference.formats import detect_format
from service.serving.errors import BadBody, BadTensor, MissingImage, TooManyFiles
from service.serving.json_bodies import decode_json
from service.serving.pipeline import Source

JSON_LENGTH = "Inference-Header-Content-Length"
TENSOR = "UINT8"
FILES = "BYTES"

_WANTED = (
    f'{{"inputs": [{{"name": "{INPUT_NAME}", "datatype": …, "shape": […], "data": […]}}]}};'
    f" an image file alone goes with the header {JSON_LENGTH}: 0"
)
_LENGTH = re.compile(r"[0-9]{1,15}")
# Nothing but a hostile list or id is longer; a refusal quotes less.
_LIST_BYTES = 1024
_ID_CHARACTERS = 4096
_TOLD_CHARACTERS = 64
_NULL = b"null"


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


class OutputParameters(msgspec.Struct, frozen=True):
    """How an output is to be written; ``classification``: the labels wanted, instead of numbers."""

    classification: int | None = None
    binary_data: bool | None = None


class Output(msgspec.Struct, frozen=True):
    """An output that is wanted."""

    name: str
    parameters: OutputParameters | None = None


class Parameters(msgspec.Struct, frozen=True):
    """Of the whole request."""

    binary_data_output: bool | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A request's JSON; members that are not known here are skipped."""

    inputs: tuple[Input]
    id: Annotated[str, Meta(max_length=_ID_CHARACTERS)] | None = None
    parameters: Parameters | None = None
    outputs: Raw = Raw(_NULL)


class Wanted(NamedTuple):
    """The answer that a request wants.

    ``id``: to be repeated. ``binary``: as bytes behind the JSON. ``classes``: so many of the most
    probable labels as text; 0 for the probabilities of all labels.
    """

    id: str | None
    binary: bool
    classes: int


_REQUEST = msgspec.json.Decoder(InferRequest)
_OUTPUTS = msgspec.json.Decoder(list[Output])
_SHAPE = msgspec.json.Decoder(list[int])


def read_request(
    body: bytes, json_length: str, size: tuple[int, int], max_images: int
) -> tuple[Sequence[Source], Wanted]:
    """The images of a request, and the answer that it wants.

    Args:
        body: all of it.
        json_length: the header's value, empty without one.
        size: (height, width) that the model takes.
        max_images: how many images may be there.

    Raises:
        BadBody, BadTensor, MissingImage, TooManyFiles: it cannot be used.
    """
    start = _start(body, json_length)
    if json_length and start == 0:
        return _raw_images(body, (*size, 3), max_images), Wanted(None, binary=True, classes=0)
    request = decode_json(_REQUEST, body if start == len(body) else body[:start], _WANTED)
    wanted = _wanted(request)
    return _Data(request.inputs[0], body, start, (*size, 3), max_images).images(), wanted


def _start(body: bytes, json_length: str) -> int:
    """Where the JSON ends."""
    if not json_length:
        return len(body)
    if not _LENGTH.fullmatch(json_length) or int(json_length) > len(body):
        raise BadBody(
            f"{JSON_LENGTH} has to be the number of the JSON's bytes; the body has {len(body)}"
        )
    return int(json_length)


def _raw_images(body: bytes, shape: tuple[int, ...], max_images: int) -> Sequence[Source]:
    """A body that is the input itself: pixels by their number, else an image file."""
    if not body:
        raise MissingImage(f"the request has no bytes: send an image file, or {_WANTED}")
    images, left = divmod(len(body), prod(shape))
    if left or detect_format(body):
        return (body,)
    _check_count(images, max_images)
    return tuple(binary_tensor(body, 0, (images, *shape)))


def _check_count(images: int, max_images: int) -> None:
    if images > max_images:
        raise TooManyFiles(f"the request holds {images} images, {max_images} are allowed")


def _wanted(request: InferRequest) -> Wanted:
    asked = bytes(request.outputs)
    outputs: list[Output] = []
    if len(asked) > _LIST_BYTES:
        raise BadTensor(f"there are too many outputs, the model has one: {OUTPUT_NAME}")
    if asked != _NULL:
        outputs = decode_json(_OUTPUTS, asked, f'"outputs": [{{"name": "{OUTPUT_NAME}"}}]')
    if len(outputs) > 1 or any(output.name != OUTPUT_NAME for output in outputs):
        names = ", ".join(repr(output.name) for output in outputs)
        raise BadTensor(f"the model has one output, {OUTPUT_NAME!r}: {names} cannot be answered")
    how = (outputs[0].parameters if outputs else None) or OutputParameters()
    binary, classes = how.binary_data, how.classification or 0
    if classes < 0:
        raise BadTensor(f"classification is {classes}, the number of labels is expected")
    if binary is None:
        binary = bool(request.parameters and request.parameters.binary_data_output)
    return Wanted(request.id, binary, classes)


class _Data:
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
        self._data = tensor.data if bytes(memoryview(tensor.data)[:5]) not in (b"", _NULL) else None
        self._size = tensor.parameters.binary_data_size if tensor.parameters else None

    def images(self) -> Sequence[Source]:
        """All of them."""
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
        text, datatype = bytes(self._tensor.shape), self._tensor.datatype
        shape = decode_json(_SHAPE, text, '"shape": [1, …]') if len(text) < _LIST_BYTES else []
        rest = {TENSOR: (list(self._shape),), FILES: ([], [1])}.get(datatype, ())
        if not shape or shape[0] < 1 or shape[1:] not in rest:
            found = f"{datatype} {text.decode()}"[:_TOLD_CHARACTERS]
            dimensions = ", ".join(map(str, self._shape))
            raise BadTensor(
                f"the model does not take {found}: send {TENSOR} [N, {dimensions}] for pixels, or"
                f" {FILES} [N] for image files"
            )
        _check_count(shape[0], self._max_images)
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
