"""Requests of the Open Inference Protocol, and what their answers say."""

import json
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.images import encode
from tests.server import Reply, Server

INFER = "/v2/models/tiny/infer"
LENGTH = "Inference-Header-Content-Length"

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
GREEN = encode(Image.new("RGB", (20, 11), (30, 220, 60)), "JPEG")
# As the model takes them.
TENSOR: NDArray[np.uint8] = np.stack(
    [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 250), (90, 120, 60))]
)


def as_json(tensor: dict[str, Any] | None = None, **members: Any) -> bytes:
    """A request's JSON; its input is called as the model's unless it says more."""
    inputs = {} if tensor is None else {"inputs": [{"name": "image"} | tensor]}
    return json.dumps(inputs | members).encode()


def pixels(data: object = None, shape: object = (3, 8, 8, 3), **members: Any) -> dict[str, Any]:
    """An input of pixels."""
    found = {"datatype": "UINT8", "shape": shape} | members
    return found if data is None else found | {"data": data}


def files(shape: object = (2,), **members: Any) -> dict[str, Any]:
    """An input of image files."""
    return {"datatype": "BYTES", "shape": shape} | members


def prefixed(*images: bytes) -> bytes:
    """Files, each behind its length."""
    return b"".join(pack("<I", len(image)) + image for image in images)


def post(server: Server, head: bytes, behind: bytes = b"", path: str = INFER) -> Reply:
    """Send JSON, and bytes behind it if there are any."""
    return server.post(path, head + behind, {LENGTH: str(len(head))} if behind else {})


def answer_of(reply: Reply) -> dict[str, Any]:
    """The JSON of an answer."""
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    assert LENGTH not in reply.headers
    found: dict[str, Any] = reply.json()
    return found


def rows_of(reply: Reply) -> NDArray[np.float32]:
    """The probabilities of an answer, in JSON or behind it."""
    assert reply.status == 200, reply.body
    length = int(reply.headers[LENGTH]) if LENGTH in reply.headers else len(reply.body)
    (output,) = json.loads(reply.body[:length])["outputs"]
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    if LENGTH not in reply.headers:
        return np.array(output["data"], np.float32).reshape(output["shape"])
    assert reply.headers["Content-Type"] == "application/octet-stream"
    behind = reply.body[length:]
    assert output["parameters"] == {"binary_data_size": len(behind)}
    assert "data" not in output
    return np.frombuffer(behind, "<f4").reshape(output["shape"])


def predicted(server: Server, *images: bytes) -> NDArray[np.float32]:
    """What /predict answers, as rows in the order of the model's labels."""
    rows = []
    for image in images:
        found = server.post("/predict", image).json()["predictions"]
        by_label = {one["label"]: one["probability"] for one in found}
        rows.append([by_label[label] for label in ("red", "green", "blue")])
    return np.array(rows, np.float32)
