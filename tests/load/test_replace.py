"""Processes are replaced behind nginx, under load; tests/container does it with containers."""

from pathlib import Path

import pytest

from tests.load.replacing import (
    DRAIN_SECONDS,
    MAX_IN_FLIGHT,
    REPLACEMENTS,
    REQUESTS,
    replace_under_load,
)
from tests.server import Server, eventually, launch


@pytest.mark.timeout(300)
def test_no_request_is_lost_while_replicas_are_replaced(
    nginx: str, tiny_model: Path, tmp_path: Path
) -> None:
    started: list[Server] = []

    def start(port: int | None) -> Server:
        settings = {"workers": 1, "drain_seconds": DRAIN_SECONDS, "max_in_flight": MAX_IN_FLIGHT}
        server = launch(tiny_model, tmp_path, port=port, **settings)
        started.append(server)
        assert eventually(server.ready, 30), server.story
        return server

    try:
        outcome, statuses = replace_under_load(start, nginx, tmp_path)
    finally:
        for server in started:
            server.kill()
    assert outcome.counts == {200: REQUESTS}
    assert statuses == [0] * REPLACEMENTS
