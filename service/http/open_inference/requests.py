"""What a request for predictions says: its images, and how they are to be answered.

A request is JSON. Behind it the numbers, or the image files, of its one input may stand as bytes;
the header ``Inference-Header-Content-Length`` says then where they begin (Triton's extension
``binary_tensor_data``). With 0 there is no JSON: all of the body is the input.
"""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw

from service.http.open_inference.inputs import JSON_LENGTH, Input, InputReader, raw_images
from service.inference.contract import INPUT_NAME, OUTPUT_NAME
from service.serving.errors import BadBody, BadTensor, MissingImage
from service.serving.json_bodies import decode_json
from service.serving.pipeline import Source

_WANTED = (
    f'{{"inputs": [{{"name": "{INPUT_NAME}", "datatype": …, "shape": […], "data": […]}}]}};'
    f" an image file alone goes with the header {JSON_LENGTH}: 0"
)
_LENGTH = re.compile(r"[0-9]{1,15}")
# Nothing but a hostile list or id is longer.
_OUTPUTS_BYTES = 1024
_ID_CHARACTERS = 4096
_NULL = Raw(b"null")


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
    outputs: Raw = _NULL


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
        if not body:
            raise MissingImage(f"the request has no bytes: send an image file, or {_WANTED}")
        return raw_images(body, (*size, 3), max_images), Wanted(None, binary=True, classes=0)
    request = decode_json(_REQUEST, body if start == len(body) else body[:start], _WANTED)
    wanted = _wanted(request)
    return InputReader(request.inputs[0], body, start, (*size, 3), max_images).images(), wanted


def _start(body: bytes, json_length: str) -> int:
    """Where the JSON ends."""
    if not json_length:
        return len(body)
    if not _LENGTH.fullmatch(json_length) or int(json_length) > len(body):
        raise BadBody(
            f"{JSON_LENGTH} has to be the number of the JSON's bytes; the body has {len(body)}"
        )
    return int(json_length)


def _wanted(request: InferRequest) -> Wanted:
    asked, outputs = request.outputs, list[Output]()
    if len(asked) > _OUTPUTS_BYTES:
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
