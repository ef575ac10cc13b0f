"""`python -m service predict` beside what it was, and beside the classifier alone: images a second.

    python -m tests.benchmarks.offline [--rounds N] [--sizes 32x32 …] [--model PATH]

Each round runs the commands one after another on the same files, whole: with their start. The
table has the medians, and the smallest and largest ratio of the rounds. `network alone` is a
process on each core, all at once, fed with pixels that are decoded already. It is measured after
the commands: `predict` can exceed it by what the machine's speed changes between the two.
Two virtual processors may be the two threads of one core, and then do less than twice its work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from service.inference.classifier import Classifier
from service.runtime.machine import available_cores
from service.runtime.sizing import MAX_BATCH_SIZE
from service.settings import DEFAULT_MODEL
from tests.benchmarks.images import SIZES
from tests.images import encode, photograph, random_pixels
from tests.server import ROOT

IMAGES = {"32x32": 40_000, "640x427": 6_000}
_DIFFERENT = 50
ALONE_SECONDS = 3.0


def write_images(folder: Path, name: str, images: int) -> list[str]:
    """So many files of one of ``SIZES``; their names in the folder."""
    width, height, kind = SIZES[name]
    different = [
        encode(photograph(seed, height, width), kind, quality=90) for seed in range(_DIFFERENT)
    ]
    names = [f"{number:06}.jpg" for number in range(images)]
    for number, file in enumerate(names):
        (folder / file).write_bytes(different[number % _DIFFERENT])
    return names


def rate(folder: Path, images: int, *command: str) -> float:
    """Images a second of a whole command."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return images / (time.perf_counter() - begun)


def rate_alone(model: Path) -> float:
    """Images a second of the network alone, on all cores at once."""
    cores = max(1, round(available_cores()))
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        list(pool.map(rate_of_one, [model] * cores))  # all are started
        return sum(pool.map(rate_of_one, [model] * cores))


def rate_of_one(model: Path) -> float:
    """The same of one process, on noise."""
    classifier = Classifier.load(model)
    batch = random_pixels(MAX_BATCH_SIZE, *classifier.input_size, 3)
    images, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < ALONE_SECONDS:
        classifier.run(batch)
        images += len(batch)
    return images / (time.perf_counter() - begun)


def compare(model: Path, name: str, rounds: int) -> None:
    """Print the line of one size."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        names = write_images(folder, name, IMAGES[name])
        before, after, alone = [], [], []
        for _ in range(rounds):
            before.append(
                rate(folder, len(names), "tests.benchmarks.one_by_one", str(model), *names)
            )
            after.append(rate(folder, len(names), "service", "predict", str(model), "."))
            alone.append(rate_alone(model))
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        median = statistics.median
        print(  # noqa: T201
            f"| {name} | {median(before):.0f} | {median(after):.0f} | {median(alone):.0f}"
            f" | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=[*IMAGES], default=[*IMAGES])
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    chosen = parser.parse_args()
    print("| JPEG | one by one | predict | network alone | ratio |\n|---|---|---|---|---|")  # noqa: T201
    for name in chosen.sizes:
        compare(chosen.model.absolute(), name, chosen.rounds)


if __name__ == "__main__":
    main()
