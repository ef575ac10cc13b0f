"""What Ray Data and Spark take of the plain command's speed, on the same files and cores.

    python -m tests.benchmarks.engines [--images N] [--size 640x427] [--rounds N]

The programs take turns, each with the default model, all labels and Parquet. Of each, the median of
the rounds: images per second and core of the whole command, and without its start, which is what it
takes for a few images. The engines are installed as for `make test-engines`.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from service.settings import DEFAULT_MODEL
from tests.benchmarks.images import PHOTOGRAPH, SIZES
from tests.benchmarks.measure import say
from tests.engines.programs import PACKAGES, environment
from tests.environments import python_with
from tests.images import encode, photograph
from tests.server import ROOT

# Photographs that are told apart; all others are further names of theirs.
DISTINCT = 100
FEW = 20
PLAIN = "plain"


def main(arguments: list[str] | None = None) -> None:
    """Measure each program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000, metavar="N")
    parser.add_argument("--size", choices=[*SIZES], default=PHOTOGRAPH)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    chosen = parser.parse_args(arguments)
    pythons = {name: python_with(*packages) for name, packages in PACKAGES.items()}
    commands = {PLAIN: [str(pythons["ray"]), "-m", "service", "predict"]}
    commands |= {name: [str(pythons[name]), "-m", f"service.batch.{name}"] for name in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="labelserve-engines-") as name:
        folder = Path(name)
        fill(folder / "few", FEW, chosen.size)
        fill(folder / "many", chosen.images, chosen.size)
        seconds = [
            {name: _seconds(name, command, folder) for name, command in commands.items()}
            for _ in range(chosen.rounds)
        ]
    say(table(seconds, chosen.images))


def fill(folder: Path, count: int, size: str) -> None:
    """So many files of photographs of one of ``SIZES``."""
    folder.mkdir()
    width, height, kind = SIZES[size]
    for number in range(count):
        file, first = (folder / f"{one}.{kind.lower()}" for one in (number, number % DISTINCT))
        if file == first:
            file.write_bytes(encode(photograph(number, height, width), kind, quality=90))
        else:
            file.hardlink_to(first)


def _seconds(name: str, command: list[str], folder: Path) -> tuple[float, float]:
    """What a program takes for a few images, and for many."""
    few, many = _taken(command, folder / "few"), _taken(command, folder / "many")
    say(f"{name}: {few:.1f} s, {many:.1f} s")
    return few, many


def _taken(command: list[str], images: Path) -> float:
    cores = len(os.sched_getaffinity(0))
    output = images.parent / "answers.parquet"
    arguments = [*command, str(DEFAULT_MODEL), str(images), "--output", str(output)]
    begun = time.perf_counter()
    done = subprocess.run(
        arguments, env=environment(cores), cwd=ROOT, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr)
    (shutil.rmtree if output.is_dir() else Path.unlink)(output)
    return taken


def table(seconds: Sequence[Mapping[str, tuple[float, float]]], images: int) -> str:
    """Markdown: a row for each program, with the share that it has of the plain one's speed."""
    cores = len(os.sched_getaffinity(0))
    whole = {
        name: median(images / many / cores for _, many in (one[name] for one in seconds))
        for name in seconds[0]
    }
    steady = {
        name: median(
            (images - FEW) / (many - few) / cores for few, many in (one[name] for one in seconds)
        )
        for name in seconds[0]
    }
    starts = {name: median(one[name][0] for one in seconds) for name in seconds[0]}
    rows = [
        f"| {name} | {starts[name]:.1f} | {whole[name]:.0f} | {whole[name] / whole[PLAIN]:.2f}"
        f" | {steady[name]:.0f} | {steady[name] / steady[PLAIN]:.2f} |"
        for name in seconds[0]
    ]
    head = "| program | start, s | images/s and core | of plain | without the start | of plain |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    main()
