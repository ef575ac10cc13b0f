"""The profile takes a request through all of its steps, and says how long each took."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.benchmarks.profile import STEPS, table
from tests.images import encode
from tests.server import ROOT


def test_the_profile_shows_every_step(tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own: it sets up logging and metrics as a worker does."""
    image = tmp_path / "red.png"
    image.write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    command = [sys.executable, "-m", "tests.benchmarks.profile", "--model", str(tiny_model)]
    command += ["--together", "1,3", "--seconds", "0.05", str(image)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.split("\n")
    ]
    assert rows[0][1:] == ["red.png, 1 together", "red.png, 3 together"]
    steps = {row[0]: [float(cell) for cell in row[1:]] for row in rows[2 : 2 + len(STEPS)]}
    assert tuple(steps) == STEPS
    assert all(time > 0 for times in steps.values() for time in times)
    assert rows[2 + len(STEPS)][0] == "**all**"


def test_sums_and_shares() -> None:
    text = table({"a": dict.fromkeys(STEPS, 2.0), "b": {**dict.fromkeys(STEPS, 1.0), "infer": 6.0}})
    *_, everything, share = text.split("\n")
    assert everything == f"| **all** | **{2 * len(STEPS)}** | **{len(STEPS) + 5}** |"
    assert share.endswith(f"| {3 / len(STEPS):.0%} | {8 / (len(STEPS) + 5):.0%} |")
