"""API keys over HTTP, under both workers: who may ask what, and when a key has changed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.runtime.shared_bytes import SharedBytes
from service.serving.auth import Auth
from service.serving.errors import Unauthorized
from service.settings import Settings, SettingsError
from tests.images import encode
from tests.server import (
    WORKERS,
    Server,
    assert_problem,
    eventually,
    multipart,
    raw_request,
    start_server,
)

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
OPEN = (
    *(
        "/",
        "/page.css",
        "/page.js",
        "/health",
        "/health/live",
        "/health/ready",
        "/ping",
        "/metrics",
    ),
    *("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"),
)


@pytest.fixture(scope="module", params=WORKERS)
def guarded(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, worker=request.param, api_keys="first-key,second-key") as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key"},
        {"Authorization": "bearer second-key"},
        {"Authorization": "Bearer   first-key"},
        {"X-API-Key": "first-key"},
        {"x-api-key": "second-key"},
    ],
)
def test_valid_keys(guarded: Server, headers: dict[str, str]) -> None:
    assert guarded.post("/predict", RED, headers).status == 200
    body, form = multipart(("a", "a", RED))
    assert guarded.post("/predict/batch", body, {**headers, **form}).status == 200
    assert guarded.get("/model", headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer third-key"},
        {"Authorization": "Bearer first-key,second-key"},
        {"Authorization": "Basic first-key"},
        {"Authorization": "first-key"},
        {"X-API-Key": ""},
        {"X-API-Key": "FIRST-KEY"},
        {"X-API-Key": "first-key2"},
        {"X-API-Key": "\xff\xfe"},
        {"X_API_Key": "first-key"},
        {"Cookie": "X-API-Key=first-key"},
    ],
)
def test_no_valid_key(guarded: Server, headers: dict[str, str]) -> None:
    for reply in (
        guarded.post("/predict", RED, headers),
        guarded.post("/predict/batch", RED, headers),
        guarded.post("/predict?top_k=x", b"", headers),
        guarded.get("/model", headers),
        guarded.get("/nothing", headers),
    ):
        problem = assert_problem(reply, 401, "unauthorized")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert "first" not in problem["detail"]


@pytest.mark.parametrize("path", OPEN)
def test_what_stays_open(guarded: Server, path: str) -> None:
    assert guarded.get(path).status == 200


@pytest.mark.parametrize(
    "path", ["//model", "/%6dodel", "//predict", "/predict%2F", "/health/../model"]
)
def test_other_spellings_do_not_pass(guarded: Server, path: str) -> None:
    assert guarded.get(path).status == 401
    assert guarded.post(path, RED).status == 401


@pytest.mark.parametrize("header", ["PATH_INFO", "SCRIPT_NAME", "Path-Info", "X-Original-URL"])
def test_no_header_changes_the_path(guarded: Server, header: str) -> None:
    assert guarded.get("/model", {header: "/health"}).status == 401
    assert guarded.get("/health/live", {header: "/health"}).status == 200


def test_refused_before_the_body_is_sent(guarded: Server) -> None:
    with guarded.wire() as wire:
        wire.send(raw_request("/predict", bytes(1_000_000))[:200])
        assert_problem(wire.reply(), 401, "unauthorized")


def test_keys_in_a_file_that_changes(tiny_model: Path, tmp_path: Path) -> None:
    """Rotated without a restart: both valid, then the new one alone."""
    file = tmp_path / "keys"
    file.write_text("# ours\nold-key\n\n", encoding="utf-8")
    settings = {"api_keys_file": file, "model_poll_seconds": 0.1, "open_metrics": "false"}

    def status(key: str, path: str = "/model") -> int:
        return server.get(path, {"X-API-Key": key}).status

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text, encoding="utf-8")
        os.replace(tmp_path / "new", file)  # noqa: PTH105

    with start_server(tiny_model, **settings) as server:
        assert status("old-key") == 200
        assert status("# ours") == 401
        assert status("new-key") == 401
        assert server.get("/metrics").status == 401
        assert status("old-key", "/metrics") == 200
        write("old-key\nnew-key\n")
        assert eventually(lambda: status("new-key") == 200)
        assert status("old-key") == 200
        write("new-key\n")
        assert eventually(lambda: status("old-key") == 401)
        assert status("new-key") == 200
        # An empty file means no keys, and not no lock.
        write("\n")
        assert eventually(lambda: status("new-key") == 401)
        # A file that is gone changes nothing.
        write("last-key\n")
        assert eventually(lambda: status("last-key") == 200)
        file.unlink()
        assert eventually(lambda: any("cannot be read" in line for line in server.log))
        assert status("last-key") == 200


def test_a_worker_that_replaces_another_goes_by_the_others_keys(
    tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key\n", encoding="utf-8")
    with start_server(tiny_model, workers=1, api_keys_file=file) as server:
        file.unlink()
        (victim,) = server.workers
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: server.workers not in ([], [victim]))
        assert eventually(server.ready)
        assert server.get("/model", {"X-API-Key": "a-key"}).status == 200
        assert server.get("/model", {"X-API-Key": "another"}).status == 401


def test_a_file_that_was_never_read_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"a-key\n")
    settings, kept = Settings(api_keys_file=file), SharedBytes()
    Auth(settings, kept)
    file.unlink()

    Auth(settings, kept).check("/model", {"X-API-Key": "a-key"})
    with pytest.raises(Unauthorized):
        Auth(settings, kept).check("/model", {"X-API-Key": "another"})
    with pytest.raises(SettingsError, match=r"LABELSERVE_API_KEYS_FILE.*No such file"):
        Auth(settings, SharedBytes())
