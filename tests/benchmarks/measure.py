"""Rounds: every server once in each, one after the other, on every cell of the plan."""

import json
import os
import platform
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.runtime.machine import available_cores
from tests.benchmarks.images import SIZES, SMALL, image_bytes
from tests.benchmarks.load import Body, Load, run_load
from tests.benchmarks.models import model_file
from tests.benchmarks.peers.model import Model
from tests.benchmarks.plan import Cell, Plan
from tests.benchmarks.servers import OURS, Server
from tests.server import multipart

WARM_SECONDS = 1.0
ALONE_SECONDS = 0.25
TOLERANCE = 1e-4


class WrongAnswer(Exception):
    """A server answers something else than the model says: its speed means nothing."""


@dataclass(frozen=True)
class Measured:
    """One load on one server.

    ``alone``: images/s of one process without HTTP, by Pillow and onnxruntime, just before and
    after; ``cores``: what each of the server's processes used, most first.
    """

    round: int
    server: str
    cell: Cell
    load: Load
    alone: float
    cores: list[float]

    @property
    def of_limit(self) -> float:
        """Good answers as a share of what all cores do without HTTP, one image at a time."""
        return self.load.good * max(1, self.cell.batch) / (self.alone * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Started:
    """How a server started, and what it holds after its work."""

    round: int
    server: str
    model: str
    workers: int
    ready_seconds: float
    memory_bytes: int


@dataclass
class Results:
    """Everything that was measured."""

    measured: list[Measured]
    started: list[Started]

    def to_json(self) -> str:
        """All of it, and where it was measured, for other tables."""
        machine = {
            "date": time.strftime("%FT%TZ", time.gmtime()),
            "machine": platform.machine(),
            "cores": available_cores(),
            "python": platform.python_version(),
            "onnxruntime": ort.__version__,
        }
        return json.dumps({"machine": machine, **asdict(self)}, indent=1)


class Bench:
    """Files and models that all rounds share."""

    def __init__(self, plan: Plan, servers: tuple[str, ...], folder: Path) -> None:
        self._plan = plan
        self._servers = servers
        self._folder = folder
        self._images: dict[str, bytes] = {}
        self._bodies: dict[Cell, Body] = {}
        for name in sorted({cell.image for cell in plan.cells()} | {SMALL}):
            self._images[name] = image_bytes(name)
        for cell in plan.cells():
            self._bodies[cell] = self._body(cell)

    def run(self) -> Results:
        """All rounds."""
        results = Results([], [])
        for number in range(1, self._plan.rounds + 1):
            for (model, workers), cells in groupby(
                self._plan.cells(), key=lambda cell: (cell.model, cell.workers)
            ):
                self._run_setup(number, model, workers, list(cells), results)
        return results

    def _run_setup(
        self, number: int, model: str, workers: int, cells: list[Cell], results: Results
    ) -> None:
        """One round of what is measured with one model and number of workers.

        All servers run meanwhile, and are loaded one after the other, so that they are compared
        within seconds.
        """
        path = model_file(model, self._folder)
        plain = Model(path)
        with ExitStack() as stack:
            running = []
            for name in self._order(number):
                server = Server(name, path, workers, self._folder)
                stack.callback(server.stop)
                server.wait_until_ready(self._images[SMALL])
                self._check(server, path, {cell.image for cell in cells})
                warm = self._body(Cell(model, workers))
                run_load(server.port, warm, 16, WARM_SECONDS)
                running.append(server)
            for cell in cells:
                for server in running:
                    # A form of several is this project's own.
                    if server.name == OURS or not cell.batch:
                        found = self._measure(number, server, cell, plain)
                        results.measured.append(found)
                        say(_line(found))
            for server in running:
                spent, held = server.ready_seconds, server.memory_bytes()
                results.started.append(Started(number, server.name, model, workers, spent, held))

    def _order(self, number: int) -> tuple[str, ...]:
        """Who goes first has a cooler machine than who goes last: not always the same."""
        first = number % len(self._servers)
        return self._servers[first:] + self._servers[:first]

    def _measure(self, number: int, server: Server, cell: Cell, plain: Model) -> Measured:
        data = self._images[cell.image]
        before, used = _alone(plain, data), server.cpu_seconds()
        load = run_load(server.port, self._bodies[cell], cell.connections, self._plan.seconds)
        after = server.cpu_seconds()
        cores = sorted((after[pid] - used.get(pid, 0)) / load.seconds for pid in after)
        alone = (before + _alone(plain, data)) / 2
        return Measured(number, server.name, cell, load, alone, cores[::-1])

    def _body(self, cell: Cell) -> Body:
        """The request's body, in a file that wrk can read."""
        data, content_type = self._images[cell.image], f"image/{SIZES[cell.image][2].lower()}"
        path = "/predict"
        if cell.batch:
            files = [("image", f"{number}.jpg", data) for number in range(cell.batch)]
            data, headers = multipart(*files)
            content_type, path = headers["Content-Type"], "/predict/batch"
        file = self._folder / f"body-{cell.image.replace(' ', '-')}-{cell.batch}"
        file.write_bytes(data)
        return Body(file, content_type, path)

    def _check(self, server: Server, path: Path, images: set[str]) -> None:
        """Hold a server's answers against its own way of decoding, without HTTP."""
        classifier, plain = Classifier.load(path), Model(path)
        for name in sorted(images):
            data = self._images[name]
            if server.name == OURS:
                pixels = decode_image(data, classifier.input_size, classifier.card.input.resize)
                (expected,) = classifier.predict(pixels.pixels[None])
            else:
                expected = plain.probabilities(data)
            found = _probabilities(server.post(data).body, classifier.card.labels)
            if not np.allclose(found, expected, atol=TOLERANCE):
                raise WrongAnswer(f"{server.name} on {name}: {found}, not {expected}")


def _probabilities(body: bytes, labels: tuple[str, ...]) -> NDArray[np.float32]:
    found = {one["label"]: one["probability"] for one in json.loads(body)["predictions"]}
    return np.array([found[label] for label in labels], np.float32)


def _alone(model: Model, data: bytes) -> float:
    """Images/s of this process, now: a machine's speed drifts."""
    number, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < ALONE_SECONDS:
        model.probabilities(data)
        number += 1
    return number / spent


def _line(found: Measured) -> str:
    cell, load = found.cell, found.load
    what = f"{cell.model}, {cell.workers} workers, {cell.image}, {cell.connections} connections"
    batch = f", {cell.batch} in a form" if cell.batch else ""
    return (
        f"{found.round} {what}{batch}: {found.server} {load.good:.0f}/s ({found.of_limit:.2f}),"
        f" p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, {load.refused} refused,"
        f" {load.lost} lost, cores {' '.join(f'{used:.2f}' for used in found.cores[:3])}"
    )


def say(text: str) -> None:
    """Show progress; a run takes a while."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
