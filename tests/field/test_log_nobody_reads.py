"""Issue 17, 1: standard output is a pipe whose reader sleeps, and serving goes on."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.runtime.log_writer import QUEUE_BYTES
from tests.images import encode
from tests.server import (
    ANSWER_SECONDS,
    ROOT,
    WORKERS,
    Server,
    eventually,
    free_port,
    raw_request,
    server_environ,
)

SENT = QUEUE_BYTES // 250  # the line of a prediction is longer
RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


class Piped(Server):
    """A server whose standard output is a pipe that is read only when the test says so."""

    def read(self, until: str) -> list[dict[str, Any]]:
        """The lines up to the first that has this message."""
        assert self.process.stdout is not None
        records: list[dict[str, Any]] = []
        for line in self.process.stdout:
            records.append(json.loads(line))
            if records[-1]["message"] == until:
                break
        return records


@pytest.fixture(params=WORKERS)
def server(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Iterator[Piped]:
    port = free_port()
    errors = tmp_path / "stderr"
    settings = {"worker": request.param, "workers": 1}
    with errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=server_environ(tiny_model, port, settings),
            stdout=subprocess.PIPE,
            stderr=err,
            start_new_session=True,
        )
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    running = Piped(process, port, errors, errors)
    try:
        assert eventually(running.ready, 60)
        yield running
    finally:
        running.kill()
        process.stdout.close()


def predict(server: Server, times: int) -> None:
    """Over one connection."""
    with server.wire() as wire:
        for _ in range(times):
            assert wire.send(raw_request("/predict", RED)).reply().status == 200


def test_serving_goes_on_while_nobody_reads_the_log(server: Piped) -> None:
    """Answers, probes and scrapes come; what is lost is counted, and told when somebody reads."""
    predict(server, SENT)
    assert server.get("/health/live").status == 200
    assert server.ready()
    lost = server.metric("labelserve_log_lines_dropped_total")
    assert lost > 100
    answered = server.metric("labelserve_requests_total", route="/predict", status="200")
    assert answered == SENT
    gap = "lines of the log were lost here: their reader did not keep up"
    *lines, told = server.read(gap)
    assert told["level"] == "warning"
    assert told["lines"] == lost
    assert [line["message"] for line in lines].count("request") == SENT - lost
    server.get("/nothing")
    assert server.read("request")[-1]["status"] == 404
    assert server.metric("labelserve_log_lines_dropped_total") == lost
    assert server.errors.read_bytes() == b""


def test_a_stop_and_a_replacement_do_not_wait_for_the_reader(server: Piped) -> None:
    predict(server, 500)
    (worker,) = server.workers
    os.kill(worker, signal.SIGKILL)  # of which the master's own log tells
    assert eventually(lambda: server.workers != [worker] and server.ready())
    predict(server, 500)
    started = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert time.monotonic() - started < ANSWER_SECONDS / 2
