"""A model answers NaN for some images: a 500 for each of them, and no metric is NaN for good."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from service.__main__ import main
from service.inference.classifier import Classifier
from service.inference.errors import ContractMismatch
from tests.images import encode
from tests.server import WORKERS, Server, assert_problem, multipart, start_server
from tests.tiny_model import make_card, make_graph, write_model

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
WHITE = encode(Image.new("RGB", (9, 7), (255, 255, 255)), "PNG")


def make_fragile_graph(brightest: float) -> onnx.ModelProto:
    """The tiny model's graph, with the root of ``brightest - mean colour`` times 0 added: NaN."""
    model = make_graph()
    graph = model.graph
    graph.node[-1].output[0] = "sound"
    graph.node.extend(
        [
            helper.make_node("Sub", ["brightest", "means"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["sound", "nothing"], ["probabilities"]),
        ]
    )
    for name, value in (("brightest", brightest), ("zero", 0.0)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return model


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "fragile.onnx"
    return write_model(path, make_card(), make_fragile_graph(250))


@pytest.fixture(scope="module", params=WORKERS)
def server(request: pytest.FixtureRequest, fragile: Path) -> Iterator[Server]:
    with start_server(fragile, worker=request.param) as running:
        yield running


def errors(server: Server, request_id: str) -> list[str]:
    server.get("/metrics")
    return [
        record["message"]
        for record in server.records
        if record["level"] == "error" and record.get("request_id") == request_id
    ]


def test_its_image_is_a_500_that_is_logged_once(server: Server) -> None:
    reply = server.post("/predict", WHITE, {"X-Request-ID": "white"})
    problem = assert_problem(reply, 500, "invalid-answer")
    assert "NaN" in problem["detail"]
    assert errors(server, "white") == ["the model answered with NaN or infinity"]
    assert server.post("/predict", RED).json()["predictions"][0]["label"] == "red"
    assert not server.tracebacks


def test_in_a_batch_it_is_one_result(server: Server) -> None:
    body, headers = multipart(
        ("a", "a", RED), ("b", "b", WHITE), ("c", "c", RED), ("d", "d", WHITE)
    )
    reply = server.post("/predict/batch", body, {**headers, "X-Request-ID": "four"})
    assert reply.status == 200
    red, white, *others = reply.json()["results"]
    assert red["predictions"][0]["label"] == "red"
    assert white["problem"]["type"] == "urn:labelserve:problem:invalid-answer"
    assert white["problem"]["status"] == 500
    assert others == [{**red, "filename": "c"}, {**white, "filename": "d"}]
    assert len(errors(server, "four")) == 1


def test_no_metric_is_touched(server: Server) -> None:
    before = server.metrics()
    server.post("/predict", WHITE)
    server.post("/predict", RED)
    after = server.metrics()
    assert all(math.isfinite(value) for value in after.values())
    key = ("labelserve_top_probability_count", frozenset[tuple[str, str]]())
    assert after[key] == before[key] + 1


def test_offline_it_is_the_files_problem(
    fragile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "white.png", tmp_path / "red.png"]
    for file, data in zip(files, (WHITE, RED), strict=True):
        file.write_bytes(data)
    assert main(["predict", str(fragile), *map(str, files), "--format", "jsonl"]) == 1
    white, red = map(json.loads, capsys.readouterr().out.splitlines())
    assert white["problem"]["status"] == 500
    assert red["predictions"][0]["label"] == "red"


def test_a_model_that_answers_nothing_else_is_not_opened(tmp_path: Path) -> None:
    path = write_model(tmp_path / "nan.onnx", make_card(), make_fragile_graph(-1))
    with pytest.raises(ContractMismatch, match="NaN"):
        Classifier.load(path)
