"""What the serving side may not import: seen in interpreters that start afresh."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.images import encode
from tests.server import ROOT

FOREIGN = ("tensorflow", "keras", "matplotlib", "sklearn", "tf2onnx", "onnx", "h5py", "training")


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EVERYTHING = """
import importlib, pkgutil, sys
import service
import service.http.app
names = [m.name for m in pkgutil.walk_packages(service.__path__, "service.")]
for name in names:
    if name not in ("service.__main__", "service.server.gunicorn"):
        importlib.import_module(name)
foreign = sys.argv[1].split(",")
print(len(names), *(name for name in sys.modules if name.split(".")[0] in foreign))
"""


def test_nothing_of_the_training_is_imported() -> None:
    count, *found = run(EVERYTHING, ",".join(FOREIGN)).split()
    assert int(count) > 20
    assert found == []


BLOCKED = """
import sys
from pathlib import Path

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in foreign:
            raise ImportError(f"{name} is not in the serving image")

foreign = sys.argv[1].split(",")
sys.meta_path.insert(0, Block())

from service.settings import Settings
from service.http.app import create_app

client = create_app(Settings(model=Path(sys.argv[2]))).test_client()
response = client.post("/predict", data=Path(sys.argv[3]).read_bytes())
print(response.status_code, response.json["predictions"][0]["label"])
"""


def test_predictions_without_any_of_it(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    said = run(BLOCKED, ",".join(FOREIGN), str(tiny_model), str(file))
    assert said.split() == ["200", "red"]


LAYERS = """
import sys
import service.inference.classifier
import service.inference.imaging
print(*(name for name in sys.modules
        if name.split(".")[0] in ("flask", "werkzeug", "gunicorn", "prometheus_client")
        or name.startswith("service.") and not name.startswith("service.inference")))
"""


def test_inference_knows_no_http() -> None:
    assert run(LAYERS).split() == []


TELEMETRY = """
import os
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
import service.inference.classifier
print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    assert run(TELEMETRY).strip() == "1"


NOTHING_AT_IMPORT = """
import os, sys, threading
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's library would start some of its own

def seen():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

before = seen()
import service.http.app
print(before == seen(), threading.active_count(), "service.__main__" in sys.modules)
"""


def test_an_import_starts_nothing() -> None:
    """No file or socket is left open, and no thread is started, Python's or a library's."""
    assert run(NOTHING_AT_IMPORT).split() == ["True", "1", "False"]
