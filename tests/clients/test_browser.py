"""The page for trying a model, in Chromium: below a root path, with keys."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from service.inference.contract import Example, Figures, ReliabilityBin
from tests.clients.conftest import run
from tests.environments import python_with
from tests.images import encode
from tests.server import Server, start_server
from tests.tiny_model import LABELS, make_card, make_graph, write_model

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("browser.py")
PACKAGES = ("playwright==1.65.2", "axe-playwright-python==0.1.8")
KEY = "a-key"
CURVE = (
    ReliabilityBin(0.3, 0.5, 0.64, 1000),
    ReliabilityBin(0.7, 0.8, 0.8, 500),
    ReliabilityBin(0.9, 0.95, 1.0, 500),
)
FIGURES = Figures("test", 2000, 0.9, 0.0102, None, {}, CURVE)
COLOURS = {"red": (150, 100, 100), "green": (100, 150, 100), "blue's": (100, 100, 150)}


def example(name: str) -> Example:
    image = base64.b64encode(encode(Image.new("RGB", (8, 8), COLOURS[name]), "PNG"))
    return Example(name.removesuffix("'s"), f"data:image/png;base64,{image.decode()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model with eight labels, five of which are nothing's, and a canary that speaks French."""
    labels = (*LABELS, "white", "black", "grey", "pink", "brown")
    card = msgspec.structs.replace(
        make_card(labels, resize="crop"),
        schema=2,
        figures=FIGURES,
        examples=(*map(example, COLOURS), *[example("red")] * 7),
    )
    folder = tmp_path_factory.mktemp("models")
    french = ("rouge", "vert", "bleu", *labels[3:])
    other = msgspec.structs.replace(card, labels=french, version="2", examples=())
    for number, label, one in ((1, "stable", card), (2, "canary", other)):
        (folder / str(number)).mkdir()
        write_model(folder / str(number) / "tiny.onnx", one, make_graph(len(labels)))
        (folder / label).symlink_to(str(number))
    with start_server(folder, api_keys=KEY, root_path="/try/it") as running:
        yield running


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, colour in COLOURS.items():
        image = encode(Image.new("RGB", (60, 40), colour), "PNG")
        (folder / f"{name}.png").write_bytes(image)
        (folder / f"{name}.png.base64").write_bytes(base64.b64encode(image))
    (folder / "broken.png").write_bytes(image[:-30])
    return folder


def test_people_can_use_the_page(server: Server, images: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("NOT TESTED: there is no Chromium to open the page with")
    given = {
        "address": f"http://127.0.0.1:{server.port}/try/it",
        "key": KEY,
        "images": str(images),
        "chromium": chromium,
        "pictures": str(tmp_path),
    }
    run(python_with(*PACKAGES), SCRIPT, json.dumps(given))
