"""requests, httpx and aiohttp: raw, as a form, as a stream, under both workers."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.conftest import run
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
    labels = json.loads(run(python_with(*PACKAGES), SCRIPT, address, image))
    assert len(labels) == 7
    assert set(labels.values()) == {"red"}, labels
