"""Programs that read the API's description: a validator, schemathesis, generators of clients."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.environments import node_modules_with, python_with
from tests.images import encode
from tests.server import ROOT, Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
VALIDATOR = ("openapi-spec-validator==0.9.0",)
SCHEMATHESIS = ("schemathesis==4.32.5", "pillow")
GENERATOR = ("openapi-python-client==0.29.1",)
TYPESCRIPT = ("openapi-typescript@7.13.0", "typescript@5.9", "@types/node@20")


def run(*command: str | Path, folder: Path | None = None, **environ: str) -> str:
    """What a program prints; it has to end with 0."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder or ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def red(tmp_path: Path) -> Path:
    file = tmp_path / "red.png"
    file.write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    return file


@pytest.fixture
def description(server: Server, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_bytes(server.get("/openapi.json").body)
    return file


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_it_is_valid(description: Path) -> None:
    run(python_with(*VALIDATOR), "-m", "openapi_spec_validator", description)


def test_schemathesis_finds_nothing(server: Server) -> None:
    """It asks for everything described, well and badly, and looks at every answer."""
    st = python_with(*SCHEMATHESIS).with_name("st")
    report = run(
        *(st, "--config-file", HERE / "schemathesis.toml", "run"),
        f"{address_of(server)}/openapi.json",
        *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "30", "--no-color"),
        PYTHONPATH=str(ROOT),
    )
    print(report[-3000:])  # noqa: T201  shown with -s, and where the test fails
    assert "No issues found" in report
    assert not server.tracebacks


def test_types_of_typescript_compile_and_predict(
    server: Server, description: Path, red: Path, tmp_path: Path
) -> None:
    modules = node_modules_with(*TYPESCRIPT)
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "predict.ts").write_text((HERE / "predict.ts").read_text(encoding="utf-8"))
    run(
        modules / ".bin" / "openapi-typescript",
        description,
        "--output",
        "labelserve.d.ts",
        folder=tmp_path,
    )
    options = ["--strict", "--target", "es2022", "--module", "commonjs", "--types", "node"]
    run(modules / ".bin" / "tsc", *options, "predict.ts", folder=tmp_path)
    answer = json.loads(run("node", "predict.js", address_of(server), red, folder=tmp_path))
    assert answer == {"model": "tiny", "label": "red", "sure": True}


def test_a_generated_client_in_python_predicts(
    server: Server, description: Path, red: Path, tmp_path: Path
) -> None:
    python = python_with(*GENERATOR)
    config = tmp_path / "config.yml"
    config.write_text("package_name_override: labelserve_client\n", encoding="utf-8")
    output = ("--output-path", tmp_path / "labelserve_client", "--config", config)
    run(
        python.with_name("openapi-python-client"),
        "generate",
        "--path",
        description,
        *output,
        "--meta",
        "none",
    )
    answer = json.loads(
        run(
            *(python, HERE / "predict_generated.py", address_of(server), red),
            PYTHONPATH=str(tmp_path),
        )
    )
    assert answer == {"status": "ready", "single": "red", "several": ["red", "red"], "refused": 400}
