"""Answers to requests for predictions: probabilities or the best labels, in JSON or as bytes."""

from collections.abc import Sequence
from struct import pack

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.http.open_inference.inputs import FILES, JSON_LENGTH
from service.http.open_inference.requests import Wanted
from service.inference.contract import OUTPUT_NAME
from service.serving.responses import JSON, Response
from service.serving.served import Served

PROBABILITIES = "FP32"


class BinarySize(msgspec.Struct, frozen=True):
    """How many bytes behind the JSON are an output's data."""

    binary_data_size: int


class OutputTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one output: FP32 [N, labels], or BYTES [N, k] with ``probability:place:label``."""

    name: str
    datatype: str
    shape: tuple[int, int]
    parameters: BinarySize | None = None
    data: Sequence[float | str] | None = None


class InferAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer's JSON. ``id`` is the request's, if it had one."""

    model_name: str
    model_version: str
    outputs: tuple[OutputTensor]
    id: str | None = None


def write_answer(served: Served, rows: Sequence[NDArray[np.float32]], wanted: Wanted) -> Response:
    """The answer to a request all of whose images are answered.

    Args:
        served: what has answered them.
        rows: of each image, float32 [labels].
        wanted: how the request wants it.
    """
    table = np.stack(rows)
    if wanted.classes:
        return _classes(served, table, wanted)
    if wanted.binary:
        return _response(
            served, wanted, PROBABILITIES, table.shape, table.astype("<f4", copy=False).tobytes()
        )
    return _response(served, wanted, PROBABILITIES, table.shape, table.ravel().tolist())


def _classes(served: Served, table: NDArray[np.float32], wanted: Wanted) -> Response:
    """The most probable labels of each image, as Triton writes them."""
    labels = served.classifier.card.labels
    places = np.argsort(-table, axis=1, kind="stable")[:, : wanted.classes]
    found = [
        f"{row[place]:.6f}:{place}:{labels[place]}"
        for row, best in zip(table.tolist(), places.tolist(), strict=True)
        for place in best
    ]
    if not wanted.binary:
        return _response(served, wanted, FILES, places.shape, found)
    texts = [text.encode() for text in found]
    data = b"".join(pack("<I", len(text)) + text for text in texts)
    return _response(served, wanted, FILES, places.shape, data)


def _response(
    served: Served,
    wanted: Wanted,
    datatype: str,
    shape: tuple[int, ...],
    data: bytes | list[float] | list[str],
) -> Response:
    rows, columns = shape
    if not isinstance(data, bytes):
        tensor = OutputTensor(OUTPUT_NAME, datatype, (rows, columns), data=data)
        return Response(200, JSON, _json(served, wanted, tensor))
    tensor = OutputTensor(OUTPUT_NAME, datatype, (rows, columns), BinarySize(len(data)))
    head = _json(served, wanted, tensor)
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}
    return Response(200, headers, head + data)


def _json(served: Served, wanted: Wanted, tensor: OutputTensor) -> bytes:
    return msgspec.json.encode(InferAnswer(served.name, str(served.number), (tensor,), wanted.id))
