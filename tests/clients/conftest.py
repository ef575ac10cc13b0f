"""One service with the default model for all clients, and one environment for all that agree.

What cannot be installed here skips its tests, loudly. The versions are those of docs/clients.md.
"""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.settings import DEFAULT_MODEL
from tests.environments import files_of, node_modules_with, python_with
from tests.images import encode, photograph
from tests.server import ROOT, WORKERS, Server, start_server

FOLDER = Path(__file__).parent

CLIENTS = (
    "tritonclient[http]==2.73.0",
    "kserve==0.21.0",
    "open-inference-openapi==2.0.0.1",
    "ovmsclient==2023.1",
    "huggingface_hub==2.4.0",
    "pillow==13.0.0",
)
# Its FastAPI is older than KServe's.
MLSERVER = ("mlserver==1.7.1",)
PERF_ANALYZER = ("perf-analyzer==2.60.0",)
# What reads the API's description.
VALIDATOR = ("openapi-spec-validator==0.9.0",)
SCHEMATHESIS = ("schemathesis==4.32.5", "pillow")
GENERATOR = ("openapi-python-client==0.29.1",)
TYPESCRIPT = ("openapi-typescript@7.13.0", "typescript@5.9", "@types/node@20")

Ask = Callable[[str, Server], Any]


@dataclass(frozen=True)
class Environments:
    """What the clients are installed in, which takes a while: all begin at the same time."""

    clients: Future[Path]
    mlserver: Future[Path]
    perf_analyzer: Future[Path]
    validator: Future[Path]
    schemathesis: Future[Path]
    generator: Future[Path]
    typescript: Future[Path]


@pytest.fixture(scope="session")
def environments() -> Iterator[Environments]:
    system = f"{platform.machine()}-manylinux_2_38"
    with ThreadPoolExecutor() as pool:
        yield Environments(
            pool.submit(python_with, *CLIENTS),
            pool.submit(python_with, *MLSERVER),
            pool.submit(files_of, *PERF_ANALYZER, platform=system),
            pool.submit(python_with, *VALIDATOR),
            pool.submit(python_with, *SCHEMATHESIS),
            pool.submit(python_with, *GENERATOR),
            pool.submit(node_modules_with, *TYPESCRIPT),
        )


@pytest.fixture(scope="session")
def default_server(environments: Environments) -> Iterator[Server]:
    """The default model, as `make serve` serves it. It starts beside the installations."""
    assert environments
    with start_server(DEFAULT_MODEL) as running:
        yield running


@pytest.fixture(scope="session", params=WORKERS)
def default_server_by_worker(
    request: pytest.FixtureRequest, default_server: Server
) -> Iterator[Server]:
    """The same under each worker."""
    if request.param == "asyncio":
        yield default_server
        return
    with start_server(DEFAULT_MODEL, worker=request.param) as running:
        yield running


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Pixels of the network's own size, without loss, and a photograph."""
    folder = tmp_path_factory.mktemp("files")
    small, large = folder / "small.png", folder / "cat.jpg"
    small.write_bytes(encode(photograph(1, 32, 32), "PNG"))
    large.write_bytes(encode(photograph(2, 300, 400), "JPEG"))
    return small, large


@pytest.fixture(scope="session")
def labels(default_server: Server) -> Sequence[str]:
    """The model's, in its order."""
    found: list[str] = default_server.get("/model").json()["labels"]
    return found


def answered(server: Server, labels: Sequence[str], *images: bytes) -> NDArray[np.float64]:
    """What /predict answers: [image, label]."""
    rows = []
    for image in images:
        found = server.post("/predict", image).json()["predictions"]
        probabilities = {one["label"]: one["probability"] for one in found}
        rows.append([probabilities[label] for label in labels])
    return np.array(rows)


@pytest.fixture(scope="session")
def expected(
    default_server: Server, labels: Sequence[str], files: Sequence[Path]
) -> NDArray[np.float64]:
    """What /predict answers to the files: [file, label]."""
    return answered(default_server, labels, *(file.read_bytes() for file in files))


@pytest.fixture(scope="session")
def black(default_server: Server, labels: Sequence[str]) -> NDArray[np.float64]:
    """What /predict answers to a black image: [1, label]."""
    return answered(default_server, labels, encode(Image.new("RGB", (32, 32)), "PNG"))


def assert_same(found: Any, expected: NDArray[np.float64]) -> None:
    """Probabilities that a client got are those of /predict."""
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-6)


def run(*command: str | Path, folder: Path = ROOT, **variables: str) -> str:
    """What a command prints; it has to end with 0. No proxy is between it and the service."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def ask(environments: Environments, files: Sequence[Path]) -> Ask:
    """Runs a program of this folder for the files: the JSON that it prints."""

    def ask(program: str, server: Server) -> Any:
        python = environments.clients.result()
        return json.loads(run(python, FOLDER / program, f"127.0.0.1:{server.port}", *files))

    return ask
