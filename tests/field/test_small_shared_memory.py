"""Issue 17, 2: a small or full /dev/shm, and what killed services leave there."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.images import encode, photograph
from tests.server import WORKERS, Server, eventually, launch, launch_by, start_server
from tests.tiny_model import make_card, make_graph, write_model

IMAGE = encode(photograph(1, 24, 24), "PNG")
SHARED = Path("/dev/shm")  # noqa: S108


def with_shared_memory(kilobytes: int, then: str) -> list[str]:
    """The command that gives a command a /dev/shm of its own of this size."""
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs {SHARED}"
    if subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: small shared memory; mounting a tmpfs is not permitted here")
    return [*unshare, "sh", "-c", f'{mount} && {then} "$@"', "sh"]


def test_too_little_is_one_line_and_a_status(tiny_model: Path, tmp_path: Path) -> None:
    command = with_shared_memory(64, "exec")
    server = launch_by(command, tiny_model, tmp_path, workers=2)
    assert server.wait() == 2
    (line,) = server.errors.read_text("utf-8").splitlines()
    assert line.startswith("cannot start: ")
    for word in ("272 kB", "64 kB free of 64 kB", "--shm-size", "medium Memory"):
        assert word in line
    assert "SIGBUS" not in server.story


def test_a_start_that_fails_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """For want of room, or because the port is in use."""
    list_after = f"list() {{ \"$@\"; ls -A {SHARED} | sed 's/^/left: /'; }}; list"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for kilobytes, port in ((140, None), (1000, taken.getsockname()[1])):
            command = with_shared_memory(kilobytes, list_after)
            server = launch_by(command, tiny_model, tmp_path, port, workers=2)
            server.wait()
            assert "left: " not in server.output.read_text("utf-8"), server.story
            assert server.errors.read_text("utf-8") + server.output.read_text("utf-8")


@pytest.fixture(params=WORKERS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server whose shared memory is full; the model is ``model.onnx`` in ``tmp_path``."""
    model = write_model(tmp_path / "model.onnx", make_card(version="one"))
    settings = {"worker": request.param, "workers": 1, "model_poll_seconds": 0.2}
    server = launch_by(with_shared_memory(300, "exec"), model, tmp_path, **settings)
    try:
        assert eventually(server.ready, 60), server.story
        fill(server)
        yield server
    finally:
        server.kill()


def fill(server: Server) -> None:
    with filler(server).open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(filler(server)).f_bavail == 0


def filler(server: Server) -> Path:
    return Path(f"/proc/{server.process.pid}/root{SHARED}/filler")


def swap(folder: Path, version: str, labels: tuple[str, ...]) -> None:
    draft = folder / "draft"
    write_model(draft, make_card(labels=labels, version=version), make_graph(len(labels)))
    draft.replace(folder / "model.onnx")


def version(server: Server) -> str:
    return str(server.post("/predict", IMAGE).json()["model"]["version"])


def test_what_is_reserved_is_enough_for_a_thousand_labels(full: Server, tmp_path: Path) -> None:
    swap(tmp_path, "two", tuple(f"label {number}" for number in range(1000)))
    assert eventually(lambda: version(full) == "two")
    assert full.metric("labelserve_model_info", name="tiny", version="two") == 1


def test_full_while_serving(full: Server, tmp_path: Path) -> None:
    """A model that needs more than what was reserved is refused."""
    workers = full.workers
    swap(tmp_path, "three", tuple(f"{'label ' * 100}{number}" for number in range(1000)))
    assert eventually(lambda: full.metric("labelserve_model_loads_total", result="refused"))
    (refused,) = [r for r in full.records if r["message"].startswith("new model refused: ")]
    assert "more room for metrics: /dev/shm has 0 kB free of 300 kB" in refused["message"]
    assert version(full) == "one"
    assert full.metric("labelserve_model_info", name="tiny", version="one") == 1
    assert full.workers == workers

    os.kill(workers[0], signal.SIGKILL)
    assert eventually(lambda: full.workers not in ([], workers) and full.ready())
    assert version(full) == "one"
    assert full.metric("labelserve_worker_restarts_total") == 1
    assert full.metric("labelserve_requests_in_flight") == 0

    filler(full).unlink()
    (tmp_path / "again").write_bytes((tmp_path / "model.onnx").read_bytes())
    (tmp_path / "again").replace(tmp_path / "model.onnx")
    assert eventually(lambda: version(full) == "three")
    assert full.get("/metrics").status == 200
    assert "SIGBUS" not in full.story


def test_folders_of_killed_services_are_removed_at_the_next_start(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Those of services that run are not."""
    killed = launch(tiny_model, tmp_path)
    with start_server(tiny_model) as running:
        assert eventually(killed.ready, 60)
        left = killed.shared_folder
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
        try:
            assert left.is_dir()
            with start_server(tiny_model) as other:
                assert not left.exists()
                assert other.shared_folder.is_dir()
                assert running.shared_folder.is_dir()
                assert running.get("/metrics").status == 200
                for file in running.shared_folder.iterdir():  # all of it is reserved
                    assert file.stat().st_blocks * 512 >= file.stat().st_size > 0
        finally:
            shutil.rmtree(left, ignore_errors=True)
