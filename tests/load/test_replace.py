"""Processes are replaced, and killed, behind nginx, under load.

tests/container replaces containers.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.images import encode, photograph
from tests.load.open_loop import http_request, offer
from tests.load.replacing import (
    DRAIN_SECONDS,
    MAX_IN_FLIGHT,
    REPLACEMENTS,
    REQUESTS,
    replace_under_load,
)
from tests.nginx import example, start_nginx
from tests.server import Server, eventually, free_port, launch, start_server


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


def test_no_request_is_lost_when_a_replica_is_killed(
    nginx: str, tiny_model: Path, tmp_path: Path
) -> None:
    """By the committed example: requests that were in flight are asked of the other one."""
    request = http_request("POST", "/predict", encode(photograph(1, 64, 64), "JPEG"))
    port = free_port()

    async def kill_under_load(doomed: Server) -> dict[int, int]:
        load = asyncio.create_task(offer(port, [request], rate=100, seconds=4))
        await asyncio.sleep(1)
        os.killpg(doomed.process.pid, signal.SIGSTOP)  # so that some are in flight
        await asyncio.sleep(0.5)
        await asyncio.to_thread(doomed.kill)
        return dict((await load).counts)

    with start_server(tiny_model) as doomed, start_server(tiny_model) as other:
        http = example(port, [f"127.0.0.1:{one.port}" for one in (doomed, other)], rate="9999r/s")
        with start_nginx(nginx, tmp_path, port, http):
            assert asyncio.run(kill_under_load(doomed)) == {200: 400}
    errors = (tmp_path / "error.log").read_text()
    assert "prematurely closed connection" in errors or "reset by peer" in errors
