"""Programs that read the API's description: a validator, schemathesis, generators of clients."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from service.settings import DEFAULT_MODEL
from tests.clients.conftest import Environments, run
from tests.images import encode
from tests.server import ROOT, WORKERS, Server, start_server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, and the description as the command line prints it."""
    folder = tmp_path_factory.mktemp("description")
    (folder / "red.png").write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    (folder / "openapi.json").write_text(run(sys.executable, "-m", "service", "openapi"))
    return folder


@pytest.fixture(scope="session")
def typescript(folder: Path, environments: Environments) -> Path:
    """A program in JavaScript, compiled with the types of the description."""
    modules = environments.typescript.result()
    (folder / "node_modules").symlink_to(modules)
    (folder / "predict.ts").write_text((HERE / "predict.ts").read_text(encoding="utf-8"))
    types = ("openapi.json", "--output", "labelserve.d.ts")
    run(modules / ".bin" / "openapi-typescript", *types, folder=folder)
    options = ("--strict", "--target", "es2022", "--module", "commonjs", "--types", "node")
    run(modules / ".bin" / "tsc", *options, "predict.ts", folder=folder)
    return folder / "predict.js"


@pytest.fixture(scope="session")
def python(folder: Path, environments: Environments) -> Path:
    """An interpreter that has what the generated client needs."""
    python = environments.generator.result()
    (folder / "config.yml").write_text("package_name_override: labelserve_client\n")
    options = ("--path", "openapi.json", "--output-path", "labelserve_client", "--meta", "none")
    generator = python.with_name("openapi-python-client")
    run(generator, "generate", *options, "--config", "config.yml", folder=folder)
    return python


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_it_is_valid(folder: Path, environments: Environments) -> None:
    python = environments.validator.result()
    run(python, "-m", "openapi_spec_validator", folder / "openapi.json")


def test_schemathesis_finds_nothing(environments: Environments) -> None:
    """It asks for everything described, well and badly, and looks at every answer.

    The default model, because its pixels are longer than any JSON here, which could pass for them.
    """
    st = environments.schemathesis.result().with_name("st")

    def report(worker: str) -> str:
        with start_server(DEFAULT_MODEL, worker=worker, name="model") as server:
            told = run(
                *(
                    st,
                    "--config-file",
                    HERE / "schemathesis.toml",
                    "run",
                    "--no-color",
                    "--warnings",
                    "off",
                ),
                *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "10"),
                f"{address_of(server)}/openapi.json",
                PYTHONPATH=str(ROOT),
            )
            assert not server.tracebacks
            return told

    with ThreadPoolExecutor() as threads:
        for told in threads.map(report, WORKERS):
            print(told[-2000:])  # noqa: T201  shown with -s, and where the test fails
            assert "No issues found" in told


def test_types_of_typescript_compile_and_predict(
    server: Server, folder: Path, typescript: Path
) -> None:
    answer = json.loads(run("node", typescript, address_of(server), folder / "red.png"))
    assert answer == {"model": "tiny", "label": "red", "sure": True}


def test_a_generated_client_in_python_predicts(server: Server, folder: Path, python: Path) -> None:
    program = (HERE / "predict_generated.py", address_of(server), folder / "red.png")
    answer = json.loads(run(python, *program, PYTHONPATH=str(folder)))
    assert answer == {
        "status": "ready",
        **dict.fromkeys(("raw", "form", "json"), "red"),
        "batch": ["red", "red"],
        "refused": 400,
    }
