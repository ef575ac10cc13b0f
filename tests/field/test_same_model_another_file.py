"""The same bytes under another inode, as a network file system or ``cp -p`` and ``mv`` give."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.images import encode, photograph
from tests.server import WORKERS, Server, eventually, start_server
from tests.tiny_model import make_card, write_model

IMAGE = encode(photograph(1, 24, 24), "PNG")


def put(file: Path, content: bytes) -> None:
    draft = file.with_name("draft")
    draft.write_bytes(content)
    os.utime(draft, ns=(0, time.time_ns()))
    draft.replace(file)


def loads(server: Server, result: str) -> float:
    return server.metric("labelserve_model_loads_total", result=result)


@pytest.mark.parametrize("worker", WORKERS)
def test_it_is_no_new_model(tmp_path: Path, worker: str) -> None:
    file = write_model(tmp_path / "m.onnx", make_card(version="one"))
    with start_server(file, workers=2, worker=worker, model_poll_seconds=0.2) as server:
        before = server.log
        shutil.copy2(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.4)
        file.touch()
        time.sleep(0.7)
        assert [line for line in server.log[len(before) :] if "model" in line] == []
        assert (loads(server, "loaded"), loads(server, "refused")) == (2, 0)
        # A refused file counts once, and the old one is no news afterwards.
        good = file.read_bytes()
        for _ in range(2):
            put(file, b"not a model")
            assert eventually(lambda: loads(server, "refused") == 2)
            time.sleep(0.7)
        put(file, good)
        time.sleep(0.7)
        assert (loads(server, "loaded"), loads(server, "refused")) == (2, 2)
        write_model(file, make_card(version="two"))
        assert eventually(lambda: loads(server, "loaded") == 4)
        assert server.post("/predict", IMAGE).json()["model"]["version"] == "two"
