"""That training streams: memory that does not grow with the images, and no waiting for them.

    python -m tests.benchmarks.streaming [--images N …] [--large N]

Folders of so many distinct 64x64 photographs, and one of 12-megapixel ones, are trained on for
three epochs by the real command, each in a process of its own. What is printed: the process' peak
memory (VmHWM), and the part of the epochs after the first that was spent waiting for images.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.measure import say
from tests.images import photograph
from tests.server import ROOT

LABELS = 4
LARGE = (3000, 4000)
EPOCHS = 3
OPTIONS = (
    "--image-size",
    "64",
    "--architecture",
    "small",
    "--epochs",
    str(EPOCHS),
    "--patience",
    "0",
    "--batch-size",
    "128",  # else it would follow the number of images
)


def main(arguments: list[str] | None = None) -> None:
    """Measure each folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="*", default=[1_000, 20_000], metavar="N")
    parser.add_argument("--large", type=int, default=120, metavar="N", help="12-megapixel images")
    chosen = parser.parse_args(arguments)
    for count, extent in [*((n, (64, 64)) for n in chosen.images), (chosen.large, LARGE)]:
        if count:
            with tempfile.TemporaryDirectory(prefix="labelserve-streaming-") as folder:
                say(measured(Path(folder), count, extent))


def measured(folder: Path, count: int, extent: tuple[int, int]) -> str:
    """A line on training on ``count`` images of (height, width)."""
    fill(folder / "images", count, extent)
    command = [sys.executable, "-m", "training", "--data", str(folder / "images"), *OPTIONS]
    command += ["--output", str(folder / "model.onnx"), "--run", str(folder / "run")]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        peak = peak_bytes(process)
    if process.returncode:
        raise SystemExit((folder / "output").read_text("utf-8"))
    with (folder / "run" / "log.csv").open(encoding="utf-8") as log:
        waiting = [float(row["waiting"]) for row in csv.DictReader(log)]
    later = max(waiting[1:])
    size = f"{extent[1]}x{extent[0]}"
    return f"{count} images of {size}: peak {peak / 1e6:.0f} MB, waiting {later:.1%} at most"


def peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """The most memory that a process had until it ended."""
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text(encoding="ascii").splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        peak = max([peak, *found])
        time.sleep(0.2)
    return peak


def fill(folder: Path, count: int, extent: tuple[int, int]) -> None:
    """Distinct photographs: one made of numbers for each label, with noise of its own each."""
    for label in range(LABELS):
        (folder / f"label-{label}").mkdir(parents=True)
        base = np.asarray(photograph(label, *extent), np.int16)
        random = np.random.default_rng(label)
        for number in range(label, count, LABELS):
            pixels = base + random.integers(-20, 21, (extent[0] // 8, extent[1] // 8, 3)).repeat(
                8, axis=0
            ).repeat(8, axis=1)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / f"label-{label}" / f"{number}.jpg", quality=85)


if __name__ == "__main__":
    main()
