"""gunicorn's own variables and files do not change the service behind its back."""

from pathlib import Path

import pytest

from tests.field.starting import refused
from tests.server import WORKERS, accepts, free_port, start_server

FILE = """
import sys
sys.exit("the working directory's gunicorn.conf.py was read")
"""


@pytest.mark.parametrize("worker", WORKERS)
def test_what_gunicorn_would_read_is_not_read(tiny_model: Path, worker: str) -> None:
    """``GUNICORN_CMD_ARGS`` causes a warning; ``WEB_CONCURRENCY`` is set by platforms."""
    other = free_port()
    variables = {
        "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{other} --workers 3 --worker-class sync",
        "WEB_CONCURRENCY": "many",
    }
    with start_server(tiny_model, worker=worker, workers=2, **variables) as server:
        assert len(server.workers) == 2
        assert not accepts(other)
        assert server.metric("labelserve_ready") == 1
        said = [line for line in server.records if "GUNICORN_CMD_ARGS" in line["message"]]
        assert [line["level"] for line in said] == ["warning"]
        kinds = [line["message"] for line in server.records if "worker:" in line["message"]]
        name = "worker" if worker == "asyncio" else worker
        assert kinds == [f"Using worker: service.server.{name}.Worker"]


def test_a_file_in_the_working_directory_is_not_read(tmp_path: Path) -> None:
    """A project of one's own may have a ``gunicorn.conf.py`` for its own server."""
    (tmp_path / "gunicorn.conf.py").write_text(FILE, encoding="ascii")
    ended = refused(tmp_path / "nothing.onnx", folder=tmp_path, workers=1)
    assert ended.status == 3, ended.lines
    assert any("nothing.onnx" in line for line in ended.lines)
