"""requests, httpx and aiohttp: raw, as a form, as a stream, under both workers."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.environments import python_with
from tests.images import encode
from tests.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("http_libraries.py")
PACKAGES = ("httpx==0.28.1", "aiohttp>=3.13", "requests>=2.32")


def test_each_library_gets_its_answer(server: Server, tmp_path: Path) -> None:
    image = tmp_path / "red.png"
    image.write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    address = f"http://127.0.0.1:{server.port}"
    done = subprocess.run(
        [python_with(*PACKAGES), SCRIPT, address, image],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)
    assert len(labels) == 7
    assert set(labels.values()) == {"red"}, labels
