"""The benchmark measures real servers, and does not take a wrong answer for speed."""

import asyncio
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from tests.benchmarks import load, measure, servers
from tests.benchmarks.hogging import Shares, shares_of
from tests.benchmarks.images import SIZES, SMALL, image_bytes
from tests.benchmarks.load import Body, closed_loop, run_load
from tests.benchmarks.measure import Bench, WrongAnswer
from tests.benchmarks.models import MODELS, model_file
from tests.benchmarks.peers.model import Model
from tests.benchmarks.plan import Cell, Plan
from tests.benchmarks.servers import FASTAPI, FLASK, OURS, ServerFailed
from tests.server import Server, free_port, start_server

BENCH_PYTHON = servers._BENCH


@pytest.fixture(scope="module")
def running(tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model) as server:
        yield server


@pytest.fixture
def body(tmp_path: Path) -> Body:
    (tmp_path / "body").write_bytes(image_bytes(SMALL))
    return Body(tmp_path / "body", "image/jpeg")


@pytest.fixture(autouse=True)
def this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers in the tests' own environment: `make test` sets up no other."""
    monkeypatch.setattr(servers, "_SERVE", Path("/none"))
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.1)
    monkeypatch.setattr(measure, "ALONE_SECONDS", 0.01)


# ---- load ----------------------------------------------------------------------------------------


def test_wrk_and_the_closed_loop_count_the_same(running: Server, body: Body) -> None:
    """The server's own count says what was sent."""

    def counted(status: str) -> float:
        return running.metric("labelserve_requests_total", route="/predict", status=status)

    before = counted("200")
    found = asyncio.run(closed_loop(running.port, body.request(), 4, 0.3))
    assert found.answers == counted("200") - before > 0
    assert found.refused == found.lost == 0
    assert 0 < found.p50_ms <= found.p99_ms
    if load.WRK is not None:
        before = counted("200")
        found = run_load(running.port, body, 4, 1)
        # What is on the way when the time is over is answered, and not counted.
        assert found.answers <= counted("200") - before <= found.answers + 4
        assert found.refused == found.lost == 0
        assert 0 < found.p50_ms <= found.p99_ms


@pytest.mark.parametrize("wrk", [load.WRK, None], ids=["wrk", "python"])
def test_refusals_are_no_throughput(
    running: Server, body: Body, monkeypatch: pytest.MonkeyPatch, wrk: str | None
) -> None:
    monkeypatch.setattr(load, "WRK", wrk)
    body.file.write_bytes(b"no image")
    found = run_load(running.port, body, 2, 0.2)
    assert found.answers == found.refused > 0
    assert found.good == 0


def test_a_server_that_is_not_there_is_loss(body: Body) -> None:
    found = asyncio.run(closed_loop(free_port(), body.request(), 1, 0.05))
    assert found.answers == 0
    assert found.lost > 0


# ---- models and images --------------------------------------------------------------------------


def test_models_are_of_the_contract_and_of_growing_cost(tmp_path: Path) -> None:
    opened = [Classifier.load(model_file(name, tmp_path)) for name in MODELS]
    named = dict(zip(MODELS, opened, strict=True))
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for classifier in opened:
        np.testing.assert_allclose(classifier.predict(images).sum(axis=1), 1, atol=1e-5)
    assert named["narrow"].seconds_per_image < named["widest"].seconds_per_image


def test_images_are_what_their_names_say() -> None:
    for name in (SMALL, "640x427", "640x427 PNG"):
        with Image.open(io.BytesIO(image_bytes(name))) as image:
            assert (*image.size, image.format) == SIZES[name]


# ---- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [OURS, FLASK, FASTAPI])
def test_every_server_answers_what_the_model_says(tmp_path: Path, name: str) -> None:
    if name == FASTAPI and not BENCH_PYTHON.exists():
        pytest.skip("NOT TESTED: the FastAPI peer needs .venv-bench (make bench sets it up)")
    plan = Plan(1, 0.2, {"concurrency": {"2": Cell(workers=1, connections=2)}})
    results = Bench(plan, (name,), tmp_path).run()
    (found,) = results.measured
    assert (found.round, found.server, found.cell.connections) == (1, name, 2)
    assert found.load.good > 0
    assert found.load.refused == found.load.lost == 0
    assert found.cores[0] > 0
    (started,) = results.started
    assert 0 < started.ready_seconds < 60
    assert 10e6 < started.memory_bytes < 500e6


def test_a_wrong_answer_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.probabilities
    monkeypatch.setattr(Model, "probabilities", lambda self, data: right(self, data)[::-1])
    plan = Plan(1, 0.1, {"concurrency": {"1": Cell(workers=1, connections=1)}})
    with pytest.raises(WrongAnswer, match=FLASK):
        Bench(plan, (FLASK,), tmp_path).run()


def test_a_server_that_ends_says_why(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [sys.executable, "-c", "import sys; sys.exit('no luck today')"]
    monkeypatch.setattr(servers, "command", lambda *_: ends)
    server = servers.Server(OURS, tiny_model, 1, tmp_path)
    with pytest.raises(ServerFailed, match="no luck today"):
        server.wait_until_ready(image_bytes(SMALL))
    assert server.processes() == []


# ---- hogging -------------------------------------------------------------------------------------


def test_shares_of_the_workers() -> None:
    """The master's look at a clock is no worker's share."""
    assert shares_of({1: 0.01, 2: 1.5, 3: 0.5}, 2) == [0.25, 0.75]
    assert shares_of({1: 2.0}, 2) == [0.0, 1.0]


def test_a_worker_that_got_nothing_is_counted() -> None:
    found = Shares([[0.4, 0.6], [0.01, 0.99], [0.5, 0.5]])
    assert found.idle == 1
    assert "in 1 a worker got nothing" in found.summary()
    assert "40% of the work in the median run, 1% in the worst" in found.summary()
