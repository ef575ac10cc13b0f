"""Which variables ask for traces; what is not there where none do; and where they cannot be had."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.runtime.traces import traces_wanted
from service.settings import SettingsError
from tests.server import ROOT, free_port, server_environ

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SERVICE_NAME": "pets"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        (
            ENDPOINT
            | {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            True,
        ),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "zipkin"}, False),
    ],
)
def test_what_asks_for_traces(environ: dict[str, str], wanted: bool) -> None:
    assert traces_wanted(environ) is wanted


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "such as http://collector:4318"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER=console: give otlp"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "PROTOCOL=grpc: give http/protobuf"),
    ],
)
def test_what_cannot_be_done_is_refused(environ: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        traces_wanted(environ)


LOADED = """
import sys, threading
from service.http.app import create_app
create_app()
print(any(name.split(".")[0] == "opentelemetry" for name in sys.modules))
print(any("Otel" in thread.name for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("on", [False, True])
def test_nothing_of_it_is_there_unless_asked_for(tiny_model: Path, on: bool) -> None:
    given = ENDPOINT if on else {"OTEL_SERVICE_NAME": "pets", "OTEL_TRACES_EXPORTER": "otlp"}
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT,
        env=server_environ(tiny_model, 1, given),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(on), str(on)]


def refused(model: Path, **settings: object) -> tuple[int, str]:
    """The exit status of a service that cannot start, and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=server_environ(model, free_port(), ENDPOINT | settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_extra_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # it has nothing of the real one
    status, said = refused(tiny_model, PYTHONPATH=tmp_path)
    assert status == 2, said
    (line,) = said.splitlines()
    assert line.startswith("cannot start: OTEL_EXPORTER_OTLP_ENDPOINT asks for traces")
    assert "requirements/otel.txt" in line


@pytest.mark.parametrize(
    "wrong",
    [
        {"OTEL_BSP_MAX_QUEUE_SIZE": "many"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": 100},  # fewer than go out at once
        {"OTEL_PROPAGATORS": "pigeon"},
    ],
)
def test_a_value_that_opentelemetry_cannot_use(tiny_model: Path, wrong: dict[str, object]) -> None:
    status, said = refused(tiny_model, workers=2, **wrong)
    assert status not in (0, None)
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "cannot start" in line]
    assert "OTEL_" in line
