"""Familiarity in answers, log and metrics, where the model has it: under both workers."""

import json
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.images import encode
from tests.server import WORKERS, Server, multipart, start_server
from tests.tiny_model import write_with_familiarity

BLACK, RED = (encode(Image.new("RGB", (9, 7), colour), "PNG") for colour in ("black", "red"))


@pytest.fixture(scope="module", params=WORKERS)
def familiar(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    model = write_with_familiarity(tmp_path_factory.mktemp("model") / "m.onnx")
    with start_server(model, worker=request.param) as running:
        yield running


def test_one_image(familiar: Server) -> None:
    found = [familiar.post("/predict", image).json() for image in (BLACK, RED)]
    assert [list(one) for one in found] == 2 * [
        ["model", "predictions", "familiarity", "unfamiliar"]
    ]
    assert [(one["familiarity"], one["unfamiliar"]) for one in found] == [(0, True), (1, False)]


def test_an_image_of_a_form(familiar: Server) -> None:
    files = [("images", name, data) for name, data in (("a", BLACK), ("b", b"no"), ("c", RED))]
    body, headers = multipart(*files)
    results = familiar.post("/predict/batch", body, headers=headers).json()["results"]
    assert [one.get("unfamiliar") for one in results] == [True, None, False]
    assert [one.get("familiarity") for one in results] == [0, None, 1]


def test_other_protocols_have_one_output(familiar: Server) -> None:
    """Clients of theirs refuse a model with several."""
    told = familiar.get("/v2/models/tiny").json()
    assert [one["name"] for one in told["outputs"]] == ["probabilities"]
    body = json.dumps({"instances": [{"b64": ""}]}).encode()
    assert familiar.post("/v1/models/tiny:predict", body).status == 400
    pixels = [[[[0, 0, 0]] * 8] * 8]
    answer = familiar.post("/v1/models/tiny:predict", json.dumps({"instances": pixels}).encode())
    assert len(answer.json()["predictions"][0]) == 3


def test_it_is_counted_and_logged(familiar: Server) -> None:
    def counted() -> list[float]:
        found = familiar.metrics()
        names = ("unfamiliar_total", "familiarity_count", "familiarity_sum")
        return [found[f"labelserve_{name}", frozenset()] for name in names]

    before = counted()
    headers = {"X-Request-ID": "black-one"}
    assert familiar.post("/predict", BLACK, headers=headers).status == 200
    assert familiar.post("/predict", RED).status == 200
    grown = [one - other for one, other in zip(counted(), before, strict=True)]
    assert grown == [1, 2, 1]
    (line,) = familiar.requests(request_id="black-one")
    assert (line["familiarity"], line["unfamiliar"]) == (0, True)
