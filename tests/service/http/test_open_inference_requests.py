"""Whatever a request says and holds: images of the model's size, or a refusal. No server here."""

import base64
import json
import os
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.http.app import create_app
from service.http.open_inference.requests import read_request
from service.inference.classifier import Classifier
from service.serving.errors import RequestError
from service.settings import Settings
from tests.service.http.open_inference import RED, TENSOR, as_json, files, pixels, prefixed

EXAMPLES = int(os.environ.get("LABELSERVE_FUZZ_EXAMPLES", "100"))
BASE64 = base64.b64encode(RED).decode()
IMAGES = 4

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some),
    max_leaves=6,
)
GOOD = [
    (pixels(TENSOR.tolist()), b""),
    (pixels(), TENSOR.tobytes()),
    (pixels(parameters={"binary_data_size": TENSOR.nbytes}), TENSOR.tobytes()),
    (files([2, 1], data=[BASE64, BASE64]), b""),
    (files(), prefixed(RED, RED)),
    (files(parameters={"binary_data_size": f"{len(RED)},{len(RED)}"}), RED + RED),
    (files([1]), RED),
]
LIKELY: dict[str, list[Any]] = {
    "name": ["image", "probabilities"],
    "datatype": ["UINT8", "BYTES", "FP32"],
    "shape": [[1], [2], [3], [2, 1], [1, 8, 8, 3], [3, 8, 8, 3], [5, 8, 8, 3], [-1], [2**70]],
    "data": [TENSOR.tolist(), TENSOR.ravel().tolist(), [BASE64], [[BASE64]], [BASE64, BASE64]],
    "parameters": [{"binary_data_size": size} for size in (0, 576, "1,2", f"{len(RED)}")],
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and the length that its header says: a good request, with some things changed."""
    tensor, behind = draw(st.sampled_from(GOOD))
    tensor = dict(tensor)
    for name in draw(st.lists(st.sampled_from(list(LIKELY)), max_size=2)):
        tensor[name] = draw(st.sampled_from(LIKELY[name]) | ANYTHING)
    members = {}
    for name in draw(st.lists(st.sampled_from(["id", "outputs", "parameters", "x"]), max_size=2)):
        members[name] = draw(ANYTHING)
    head = as_json(tensor, **members)
    behind = draw(st.sampled_from([behind, behind, behind[:-1], behind + b"\0", b"", RED]))
    length = draw(st.sampled_from([len(head)] * 6 + [0, len(head) - 1, len(head) + 1, 10**9]))
    return head + behind, draw(st.sampled_from([str(length)] * 6 + ["", "-1", "1.5"]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(requests())
@example((TENSOR.tobytes(), "0"))
@example((b"", "0"))
@example((b"", ""))
def test_images_or_a_refusal(request: tuple[bytes, str]) -> None:
    """What is taken has the shape that was promised, and is no more than may be there."""
    body, length = request
    try:
        images, wanted = read_request(body, length, (8, 8), IMAGES)
    except RequestError:
        return
    assert 1 <= len(images) <= IMAGES
    assert wanted.classes >= 0
    for image in images:
        if isinstance(image, np.ndarray):
            assert image.shape == (8, 8, 3)
            assert image.dtype == np.uint8
        else:
            assert isinstance(image, bytes)
    if length not in ("", "0"):
        (tensor,) = json.loads(body[: int(length)])["inputs"]
        assert len(images) == tensor["shape"][0]
        assert (tensor["datatype"] == "UINT8") == isinstance(images[0], np.ndarray)


@pytest.mark.parametrize("name", ["Bären & Füchse", "100%", "a b", "v1.2+x", "models", "stats"])
def test_a_model_of_any_name_without_slash_and_colon(
    tiny_classifier: Classifier, name: str
) -> None:
    client = create_app(Settings(name=name), tiny_classifier).test_client()
    path = f"/v2/models/{quote(name)}"
    assert client.get(f"{path}/versions/1").json["name"] == name  # type: ignore[index]
    answer = client.post(
        f"{path}/infer", data=RED, headers={"Inference-Header-Content-Length": "0"}
    )
    assert answer.status_code == 200
