"""Clients of the Open Inference Protocol, version 2, other than Triton's."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.conftest import FOLDER, Ask, Environments, assert_same, run
from tests.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

Rows = NDArray[np.float64]


def test_kserve(default_server: Server, ask: Ask, expected: Rows, black: Rows) -> None:
    answers = ask("kserve_v2.py", default_server)
    assert [answers[what] for what in ("live", "ready", "model ready")] == [True, True, True]
    assert_same(answers["files"], expected)
    assert_same(answers["black"], black)
    assert_same(answers["black in JSON"], black)
    assert "UINT8 [N, 32, 32, 3]" in answers["wrong shape"]
    assert "400 Bad Request" in answers["wrong shape"]


def test_client_made_of_the_protocols_description(
    default_server: Server, ask: Ask, expected: Rows
) -> None:
    answers = ask("open_inference_client.py", default_server)
    assert answers["server"]["name"] == "labelserve"
    assert answers["metadata"]["inputs"][0]["shape"] == [-1, 32, 32, 3]
    assert answers["files"]["id"] == "42"
    (output,) = answers["files"]["outputs"]
    assert_same(np.reshape(output["data"], output["shape"]), expected)
    assert "UINT8 [N, 32, 32, 3]" in answers["wrong shape"]["error"]


def test_batches_of_mlserver(
    default_server: Server,
    environments: Environments,
    files: Sequence[Path],
    expected: Rows,
    tmp_path: Path,
) -> None:
    """Seven requests become two of four and three images."""
    programs = environments.mlserver.result().parent
    given = [files[number % 2] for number in range(7)]
    path, address = (
        f"{programs}{os.pathsep}{os.environ['PATH']}",
        f"127.0.0.1:{default_server.port}",
    )
    run("sh", FOLDER / "mlserver.sh", address, *given, folder=tmp_path, PATH=path)
    lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    found = {one["parameters"]["batch_index"]: one["outputs"][0]["data"] for one in answers}
    assert_same([found[number] for number in range(7)], expected[[0, 1, 0, 1, 0, 1, 0]])
    assert len({one["parameters"]["inference_id"] for one in answers}) == 2
