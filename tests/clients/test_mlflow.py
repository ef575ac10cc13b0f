"""A real collector of traces: mlflow's server takes them, and mlflow's own program reads them."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import FOLDER, run
from tests.environments import python_with
from tests.images import encode, photograph
from tests.server import WORKERS, accepts, eventually, free_port, start_server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]

MLFLOW = "mlflow==3.17.2"
IMAGE = encode(photograph(1, 640, 427), "JPEG")
# It need neither tell of itself nor run anybody's jobs.
QUIETLY = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
PARENT = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def python() -> Path:
    return python_with(MLFLOW)


@pytest.fixture(scope="module")
def mlflow(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a store in SQLite."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command: list[str | Path] = [
        python,
        "-m",
        "mlflow",
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", folder / "artifacts"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **QUIETLY},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert eventually(lambda: process.poll() is not None or accepts(port), 300)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it has processes of its own
        process.wait()


@pytest.mark.parametrize("worker", WORKERS)
def test_mlflow_shows_a_request_and_its_phases(
    tiny_model: Path, python: Path, mlflow: str, worker: str
) -> None:
    """A client's trace goes on in it; what the service was asked last is there after its stop."""
    trace = os.urandom(16).hex()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": mlflow,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=0",
    }
    with start_server(tiny_model, worker=worker, **environ) as server:
        own = server.post("/predict", IMAGE).headers["X-Request-ID"]
        server.post("/predict", IMAGE, {"traceparent": f"00-{trace}-{PARENT}-01"})
        assert server.stop() == 0
        assert not [one for one in server.records if one["logger"].startswith("opentelemetry")]
    spans = json.loads(run(python, FOLDER / "mlflow_traces.py", mlflow))
    for wanted, parent in ((own, None), (trace, PARENT)):
        of_it = [span for span in spans if wanted in span["trace"]]
        (top,) = [span for span in of_it if span["name"] == "POST /predict"]
        phases = [span for span in of_it if span is not top]
        assert top["parent"] == parent
        assert {phase["name"] for phase in phases} == {"wait", "decode", "inference"}
        for phase in phases:
            assert phase["parent"] == top["span"]
            assert top["begun"] <= phase["begun"] <= phase["ended"] <= top["ended"]
        assert top["attributes"]["http.response.status_code"] == 200
        assert top["attributes"]["labelserve.image.bytes"] == len(IMAGE)
