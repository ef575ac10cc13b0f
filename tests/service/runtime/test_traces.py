"""Which variables ask for traces; what is not there where none do; and where they cannot be had.

The variables may be meant for other programs: none of them keeps the service from starting.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.runtime.traces import NoTraces, traces_wanted
from tests.images import encode
from tests.server import ROOT, server_environ, start_server

RED = encode(Image.new("RGB", (9, 7), (255, 0, 0)), "PNG")
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
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "[::1"}, "such as http://collector:4318"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER=console: give otlp"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "PROTOCOL=grpc: give http/protobuf"),
    ],
)
def test_what_cannot_be_done_is_refused(environ: dict[str, str], told: str) -> None:
    with pytest.raises(NoTraces, match=told):
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


def untraced(model: Path, **variables: object) -> str:
    """The one warning of a service that answers all the same, and stops as it should."""
    with start_server(model, workers=2, **{**ENDPOINT, **variables}) as server:
        assert server.post("/predict", RED).status == 200
        assert server.stop() == 0
        assert not server.tracebacks
        (line,) = [one for one in server.records if one["level"] == "warning"]
        assert not [one for one in server.records if one["level"] == "error"]
    told = str(line["message"])
    assert told.startswith("requests are not traced: ")
    return told


def test_the_extra_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # it has nothing of the real one
    told = untraced(tiny_model, PYTHONPATH=tmp_path)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces" in told
    assert "requirements/otel.txt" in told


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "give http/protobuf"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": 100}, "OTEL_"),  # fewer than go out at once
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "give a whole number"),
        ({"OTEL_PROPAGATORS": "pigeon"}, "pigeon"),
    ],
)
def test_a_value_that_cannot_be_used(tiny_model: Path, wrong: dict[str, object], told: str) -> None:
    assert told in untraced(tiny_model, **wrong)
