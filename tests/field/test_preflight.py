"""A browser asks, without the key, whether it may send one: OPTIONS is answered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import WORKERS, Server, assert_problem, start_server

PREFLIGHT = {
    "Origin": "https://example.org",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture(scope="module", params=WORKERS)
def guarded(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(
        tiny_model, worker=request.param, api_keys="a-key", open_metrics="false"
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/predict", "POST"),
        ("/predict?top_k=1", "POST"),
        ("/predict/batch", "POST"),
        ("/model", "GET"),
        ("/metrics", "GET"),
        ("/health", "GET"),
        ("/health/live", "GET"),
        ("/health/ready", "GET"),
    ],
)
def test_a_known_path_names_its_methods(guarded: Server, path: str, method: str) -> None:
    reply = guarded.ask("OPTIONS", path, headers=PREFLIGHT)
    assert reply.status == 200
    assert {method, "OPTIONS"} <= set(reply.headers["Allow"].split(", "))
    assert reply.body == b""


def test_with_keys_an_unknown_path_says_nothing(guarded: Server) -> None:
    for path in ("/nothing", "/predict/", "/Predict", "*"):
        assert_problem(guarded.ask("OPTIONS", path, headers=PREFLIGHT), 401, "unauthorized")


def test_without_keys_an_unknown_path_is_404(server: Server) -> None:
    assert_problem(server.ask("OPTIONS", "/nothing"), 404, None)
    assert server.ask("OPTIONS", "/predict").status == 200


def test_the_request_itself_still_needs_the_key(guarded: Server) -> None:
    assert_problem(guarded.post("/predict", b"x", PREFLIGHT), 401, "unauthorized")
    assert_problem(guarded.get("/model", PREFLIGHT), 401, "unauthorized")


def test_it_is_counted_as_no_prediction(server: Server) -> None:
    def predictions() -> float:
        return server.metric("labelserve_requests_total", route="/predict", status="200")

    before = predictions()
    assert server.ask("OPTIONS", "/predict", headers=PREFLIGHT).status == 200
    assert predictions() == before
