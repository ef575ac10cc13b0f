"""Triton's clients, under both workers; its Performance Analyzer, in a container."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.conftest import FOLDER, Ask, Environments, assert_same
from tests.container.engine import Engine
from tests.server import ROOT, Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def answers(default_server_by_worker: Server, ask: Ask) -> Any:
    return ask("triton.py", default_server_by_worker)


def test_it_finds_server_and_model_ready(answers: Any) -> None:
    assert [answers[what] for what in ("live", "ready", "model ready")] == [True, True, True]
    assert "binary_tensor_data" in answers["server"]["extensions"]
    assert answers["repository"][0] == {
        "name": "cifar10-deep", "version": "1", "state": "READY", "reason": ""
    }  # fmt: skip


def test_metadata_and_config_say_what_the_model_takes(answers: Any) -> None:
    (taken,), (given,) = answers["metadata"]["inputs"], answers["metadata"]["outputs"]
    assert taken == {"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}
    assert given == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}
    assert answers["config"]["input"][0]["format"] == "FORMAT_NHWC"
    assert answers["config"]["max_batch_size"] == 64


@pytest.mark.parametrize("way", ["files", "files answered in JSON", "asynchronous"])
def test_files_get_the_answers_of_predict(
    answers: Any, expected: NDArray[np.float64], way: str
) -> None:
    assert_same(answers[way], expected)


@pytest.mark.parametrize("way", ["pixels", "pixels in JSON"])
def test_pixels_of_its_own_size_get_the_answer_of_predict(
    answers: Any, expected: NDArray[np.float64], way: str
) -> None:
    assert len(answers[way]) == len(expected)
    assert_same(answers[way][0], expected[0])


def test_classes_are_the_most_probable_labels(
    answers: Any, expected: NDArray[np.float64], labels: Sequence[str]
) -> None:
    for texts, row in zip(answers["three best"], expected, strict=True):
        best = np.argsort(-row)[:3]
        found = [text.split(":") for text in texts]
        assert [(int(place), label) for _, place, label in found] == [(i, labels[i]) for i in best]
        assert_same([float(probability) for probability, _, _ in found], row[best])


def test_a_request_keeps_its_id(answers: Any) -> None:
    assert answers["request id"] == "42"


def test_statistics_count_requests_and_images(answers: Any) -> None:
    found = answers["statistics"]
    assert found["execution_count"] >= 7
    assert found["inference_count"] >= 14
    assert found["inference_stats"]["compute_infer"]["ns"] > 0


def test_refusals_say_what_is_wrong(answers: Any) -> None:
    assert answers["wrong shape"].startswith("400: ")
    assert "UINT8 [N, 32, 32, 3]" in answers["wrong shape"]
    assert answers["wrong model"].startswith("404: ")
    assert "there is 'cifar10-deep'" in answers["wrong model"]
    assert answers["compressed"].startswith("415: ")
    assert answers["load"].startswith("400: ")


def test_many_requests_of_asyncio_are_answered(
    default_server_by_worker: Server,
    ask: Ask,
    expected: NDArray[np.float64],
    labels: Sequence[str],
) -> None:
    found = ask("triton_aio.py", default_server_by_worker)
    assert found["model ready"] is True
    best = [text.rpartition(":")[2] for text in found["best"].values()]
    assert best == [labels[i] for i in expected.argmax(axis=1)]


def test_performance_analyzer_reports(
    default_server: Server, environments: Environments, engine: Engine
) -> None:
    """Its wheel wants a newer C library than Debian's before trixie: the base image has it."""
    program: Path = environments.perf_analyzer.result() / "perf_analyzer" / "bin"
    base = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[0]
    mounts = ("--volume", f"{program}:/opt/perf:ro", "--volume", f"{FOLDER}:/clients:ro")
    path = ("--env", "PATH=/opt/perf:/usr/local/bin:/usr/bin:/bin")
    script = ("sh", "/clients/perf_analyzer.sh", f"127.0.0.1:{default_server.port}")
    report = engine.call("run", "--rm", "--network", "host", *mounts, *path, base, *script).stdout
    client, _, server = report.partition("Server:")
    assert "Request count: 200" in client, report
    assert float(re.findall(r"Throughput: ([\d.]+)", client)[0]) > 0
    # The server's figures are taken while requests are under way.
    assert 100 <= int(re.findall(r"Successful request count: (\d+)", server)[0]) <= 200, report
    assert int(re.findall(r"compute infer (\d+) usec", server)[0]) > 0
    assert not default_server.tracebacks
