"""Starting, stopping and losing a worker: what an operator sees, under both workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from gunicorn.workers.gthread import ThreadWorker
from PIL import Image

from service.http.app import create_app
from service.http.current import service_of
from service.runtime.shared_state import SharedState, WorkerSlot
from service.server.gthread import Worker
from service.settings import Settings
from tests.images import encode
from tests.server import (
    ROOT,
    WORKERS,
    Server,
    ServerError,
    Wire,
    assert_problem,
    eventually,
    free_port,
    launch,
    raw_request,
    server_environ,
    start_server,
)
from tests.tiny_model import write_model

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
# Some 0.15 s of decoding.
SLOW = encode(Image.new("RGB", (3500, 3500), (200, 40, 90)), "PNG", compress_level=9)

# Long enough to look around in, on a busy machine too.
DRAIN = 3.5

# What the project promises for a start that cannot be; the test's own machine may be busy.
REFUSED_SECONDS = 5.0


def run_to_end(model: Path | None, **settings: object) -> tuple[int, str, str, float]:
    """Exit status, standard output and error, and how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=server_environ(model, free_port(), settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - begun


def test_a_worker_with_threads_ends_its_shadow(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the event loop's does: its thread would go on with what waits, and keep the process."""
    app = create_app(Settings(model=tiny_model), slot=WorkerSlot(SharedState(1), 0))
    stopped: list[bool] = []
    monkeypatch.setattr(service_of(app).shadow, "stop", lambda: stopped.append(True))
    monkeypatch.setattr(ThreadWorker, "run", lambda _: None)
    worker = Worker.__new__(Worker)
    worker.wsgi = app
    worker.run()
    assert stopped


# ---- starts that cannot be -----------------------------------------------------------------------


def no_file(folder: Path) -> Path:
    return folder / "nothing.onnx"


def no_card(folder: Path) -> Path:
    return write_model(folder / "no-card.onnx", None)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("make", [no_file, no_card])
def test_a_model_that_cannot_be_used(
    tmp_path: Path, worker: str, make: Callable[[Path], Path]
) -> None:
    """One clear line, a status that is not 0, soon, and no loop of dying workers."""
    model = make(tmp_path)
    status, output, errors, seconds = run_to_end(model, worker=worker, workers=3)
    text = output + errors
    assert status not in (0, None), text
    assert seconds < REFUSED_SECONDS, text
    assert "Traceback" not in text
    (complaint,) = [line for line in text.splitlines() if "cannot start" in line]
    assert str(model) in complaint
    assert text.count("Booting worker") <= 6, text


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "eighty"), ("LABELSERVE_WORKERS", "-1"), ("LABELSERVE_MODLE", "x.onnx")],
)
def test_a_setting_that_cannot_be_understood(tiny_model: Path, variable: str, value: str) -> None:
    environ = server_environ(tiny_model, free_port(), {}) | {variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, None)
    assert variable in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert len((done.stderr + done.stdout).strip().splitlines()) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_alive": "0", "max_in_flight": "1", "decoders": "1", "inference_threads": "1"},
        {
            "keep_alive": "0.5",
            "graceful_timeout": "2.5",
            "request_timeout": "0.5",
            "head_timeout": "0.5",
            "body_timeout": "0.5",
            "log_format": "plain",
            "host": "localhost",
        },
    ],
    ids=["least", "fractions"],
)
@pytest.mark.parametrize("worker", WORKERS)
def test_settings_that_are_set_still_start(
    tiny_model: Path, worker: str, settings: dict[str, str]
) -> None:
    """Their defaults are not the only values that gunicorn takes."""
    with start_server(tiny_model, worker=worker, **settings) as server:
        for _ in range(2):
            assert server.post("/predict", RED).status == 200
        assert server.stop() == 0


def test_not_ready_before_every_worker_is(tiny_model: Path, tmp_path: Path) -> None:
    """At the first 200 every worker has its model, and predictions are answered at once."""
    for _ in range(2):
        server = launch(tiny_model, tmp_path, None, workers=3)
        try:
            assert eventually(server.ready, 60)
            assert server.metric("labelserve_model_loads_total", result="loaded") == 3
            for _ in range(12):
                assert server.post("/predict", RED).status == 200
        finally:
            server.kill()


# ---- stopping ------------------------------------------------------------------------------------


def in_flight(server: Server) -> float:
    return server.metric("labelserve_requests_in_flight")


@pytest.mark.parametrize("worker", WORKERS)
def test_sigterm_with_requests_in_flight(tiny_model: Path, worker: str) -> None:
    """Every request in flight is answered, waiting ones included; then the exit status is 0."""
    count = 6
    with (
        start_server(tiny_model, worker=worker, workers=2, decoders=1) as server,
        ThreadPoolExecutor(count) as clients,
    ):
        work = [clients.submit(server.post, "/predict", SLOW) for _ in range(count)]
        assert eventually(lambda: in_flight(server) == count)
        server.terminate()
        replies = [job.result() for job in work]
        assert [reply.status for reply in replies] == [200] * count
        assert server.wait() == 0
        assert not server.tracebacks


@pytest.mark.parametrize("worker", WORKERS)
def test_sigterm_with_idle_connections(tiny_model: Path, worker: str) -> None:
    """Kept-alive clients do not hold the end up for long, and a last request is answered."""
    with start_server(tiny_model, worker=worker) as server, server.wire() as wire:
        live = raw_request("/health/live", method="GET")
        assert wire.send(live).reply().status == 200
        begun = time.monotonic()
        server.terminate()
        assert eventually(lambda: any("Handling signal: term" in line for line in server.log))
        time.sleep(0.3)
        reply = wire.send(live).reply()
        assert reply.status == 200
        assert reply.headers["Connection"] == "close"
        wire.sock.close()
        assert server.wait() == 0
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("worker", WORKERS)
def test_sigterm_and_half_a_request(tiny_model: Path, worker: str) -> None:
    """Half a request does not keep the process beyond the graceful timeout."""
    settings = {"graceful_timeout": 1, "body_timeout": 60, "head_timeout": 60}
    with start_server(tiny_model, worker=worker, **settings) as server, server.wire() as wire:
        wire.send(raw_request("/predict", RED)[:-5])
        time.sleep(0.2)
        begun = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_other_ways_to_stop(tiny_model: Path, name: str) -> None:
    with start_server(tiny_model) as server:
        server.process.send_signal(signal.Signals[name])
        assert server.wait() == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_draining(tiny_model: Path, worker: str) -> None:
    """Unready at once, answering for as long as was asked, then gone; no answer is lost."""
    with (
        start_server(tiny_model, worker=worker, workers=2, drain_seconds=DRAIN) as server,
        ThreadPoolExecutor(4) as clients,
    ):
        stop = threading.Event()
        work = [clients.submit(keep_asking, server, stop) for _ in range(4)]
        begun = time.monotonic()
        server.terminate()
        assert eventually(lambda: server.get("/health/ready").status == 503, DRAIN / 2)
        assert_problem(server.get("/health/ready"), 503, "not-ready")
        assert_problem(server.get("/health"), 503, "not-ready")
        assert server.get("/v1/models/tiny").status == 503
        assert server.get("/health/live").status == 200
        assert server.metric("labelserve_ready") == 0
        assert server.post("/predict", RED).status == 200
        time.sleep(max(0, begun + DRAIN * 0.7 - time.monotonic()))
        assert server.post("/predict", RED).status == 200
        stop.set()
        assert sum(job.result() for job in work) > 20
        assert server.wait() == 0
        assert DRAIN * 0.95 < time.monotonic() - begun < DRAIN + 15
        assert not server.requests(status=503, route="/predict")


def keep_asking(server: Server, stop: threading.Event) -> int:
    answered = 0
    while not stop.is_set():
        assert server.post("/predict", RED).status == 200
        answered += 1
    return answered


def test_a_second_sigterm_ends_the_drain(tiny_model: Path) -> None:
    with start_server(tiny_model, drain_seconds=60) as server:
        server.terminate()
        assert eventually(lambda: not server.ready())
        server.terminate()
        assert server.wait(15) == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_nothing_is_left_behind(tiny_model: Path, worker: str) -> None:
    """No process, and no file of the metrics in shared memory."""
    with start_server(tiny_model, worker=worker, workers=2) as server:
        folder = server.shared_folder
        assert any(folder.iterdir())
        pids = server.workers
        assert len(pids) == 2
        assert server.stop() == 0
        assert not folder.exists()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


# A worker whose service is told to stop when the worker is ready, and not yet at its event loop.
STOPPED_EARLY = """
import os, signal, sys, time
from service.server import gthread, worker
from service.server.application import serve

def stopping(load):
    def load_wsgi(self):
        load(self)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1)
    return load_wsgi

for kind in (gthread.Worker, worker.Worker):
    kind.load_wsgi = stopping(kind.load_wsgi)
sys.exit(serve({}))
"""


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_that_is_told_to_stop_before_its_loop_runs_stops(
    tiny_model: Path, worker: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_EARLY],
        cwd=ROOT,
        env=server_environ(tiny_model, free_port(), {"worker": worker, "workers": 1}),
        capture_output=True,
        text=True,
        timeout=20,  # less than the grace period, after which it would be killed
        check=False,
    )
    assert done.returncode == 0, done.stderr


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_signal_does_not_make_a_worker_spin(tiny_model: Path) -> None:
    """It wakes the worker once: neither a log's rotation nor a stop costs a core."""
    with start_server(tiny_model) as server, server.wire() as wire:
        (pid,) = server.workers
        os.kill(pid, signal.SIGUSR1)
        wire.send(raw_request("/predict", RED)[:-5])  # which a stop waits for
        time.sleep(0.2)
        before = cpu_seconds(pid)
        time.sleep(0.6)
        assert cpu_seconds(pid) - before < 0.3
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
        before = cpu_seconds(pid)
        time.sleep(0.6)
        assert cpu_seconds(pid) - before < 0.3
        assert wire.send(RED[-5:]).reply().status in (200, 503)


# ---- a worker that dies --------------------------------------------------------------------------


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_that_is_killed_is_replaced(tiny_model: Path, worker: str) -> None:
    """Counts survive exactly, readiness comes back, and nothing grows."""
    with start_server(tiny_model, worker=worker, workers=2) as server:
        asked = 0
        for round_ in range(3):
            for _ in range(20):
                assert server.post("/predict", RED).status == 200
                asked += 1
            assert server.metric("labelserve_predictions_total", label="red") == asked
            before = set(server.workers)
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            assert eventually(lambda: len(set(server.workers) - {victim}) == 2)  # noqa: B023
            assert eventually(server.ready)
            count = server.metric("labelserve_requests_total", route="/predict", status="200")
            assert count == asked
            assert server.metric("labelserve_predictions_total", label="red") == asked
            assert server.metric("labelserve_request_duration_seconds_count", route="/predict") == (
                asked
            )
            loads = server.metric("labelserve_model_loads_total", result="loaded")
            assert loads == 2 + round_ + 1
        assert eventually(lambda: in_flight(server) == 0)
        folder = server.shared_folder
        files = sorted(path.name for path in folder.iterdir() if path.suffix == ".db")
        assert files
        assert {name.rpartition("_")[2] for name in files} <= {"0.db", "1.db"}


def held(pid: int) -> set[int]:
    """The clients' ports of the connections that a process has."""
    files = {link.resolve().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = map(str.split, Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return {int(row[2].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in files}


def ask_for_slow(wire: Wire) -> int | None:
    """The answer's status, None where none comes."""
    with suppress(OSError, ServerError):
        return wire.send(raw_request("/predict", SLOW)).reply().status
    return None


def test_only_the_requests_of_a_killed_worker_fail(tiny_model: Path) -> None:
    count = 16
    with (
        start_server(tiny_model, workers=2, decoders=2) as server,
        ExitStack() as open_wires,
        ThreadPoolExecutor(count) as clients,
    ):
        wires = [open_wires.enter_context(server.wire()) for _ in range(count)]
        work = [clients.submit(ask_for_slow, wire) for wire in wires]
        assert eventually(lambda: in_flight(server) >= count // 2)
        before = server.workers
        for pid in before:
            os.kill(pid, signal.SIGSTOP)  # nothing is accepted or closed while we look
        victim = max(before, key=lambda pid: len(held(pid)))
        lost = held(victim)
        os.kill(victim, signal.SIGKILL)
        (other,) = set(before) - {victim}
        os.kill(other, signal.SIGCONT)
        ports = [wire.sock.getsockname()[1] for wire in wires]
        statuses = dict(zip(ports, [job.result() for job in work], strict=True))
        assert set(statuses.values()) <= {200, None}
        unanswered = {port for port, status in statuses.items() if status is None}
        assert unanswered
        assert unanswered <= lost
        assert eventually(lambda: len(set(server.workers) - {victim}) == 2)
        assert eventually(server.ready)
        assert eventually(lambda: in_flight(server) == 0)
        assert server.post("/predict", RED).status == 200


def test_a_worker_that_hangs_up_its_master_ends(tiny_model: Path) -> None:
    """Workers whose master was killed do not live on."""
    with start_server(tiny_model, workers=2) as server:
        pids = server.workers
        server.process.kill()
        server.process.wait()
        assert eventually(lambda: not [p for p in pids if alive(p)], 20)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
