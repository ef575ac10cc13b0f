"""Is the Open Inference Protocol as fast as /predict, and a batch of tensors as the network alone?

    python -m tests.benchmarks.dialects [--model MODEL] [--rounds N] [--seconds S]

One worker is asked by turns for one small image: by /predict, by /v2 as BYTES, and by /v2 as a
tensor; then for a tensor of 64 images, which the same network answers without HTTP just before and
after. What is printed are ratios of each round, and their medians: of answers a second, and in
brackets of answers a second of the worker's CPU time, which other processes disturb less.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.runtime.machine import available_cores
from tests.benchmarks.images import SMALL, image_bytes
from tests.benchmarks.load import Body, run_load
from tests.benchmarks.measure import say
from tests.benchmarks.models import MODELS, model_file
from tests.benchmarks.precisions import processor
from tests.benchmarks.servers import OURS, Server

CONNECTIONS = 16
BATCH = 64
# So many requests with a batch are on their way: one is received while another is answered.
BATCH_CONNECTIONS = 2
PREDICT, FILES, TENSOR = "/predict", "/v2 BYTES", "/v2 tensor"
TENSORS = f"{BATCH} tensors in a request"


class Refused(Exception):
    """A request was not answered: its speed means nothing."""


class Rate(NamedTuple):
    """Answers a second by the clock, and of CPU time."""

    by_clock: float
    by_cpu: float

    def over(self, other: "Rate") -> "Rate":
        """As a share of another."""
        return Rate(self.by_clock / other.by_clock, self.by_cpu / other.by_cpu)

    def mean(self, other: "Rate") -> "Rate":
        """Of both."""
        return Rate((self.by_clock + other.by_clock) / 2, (self.by_cpu + other.by_cpu) / 2)


class Dialects:
    """The same image in each wire format: ``bodies``, by the names above.

    Args:
        model: the file of the model that answers.
        folder: where bodies are kept.
        seconds: how long one load takes.
    """

    def __init__(self, model: Path, folder: Path, seconds: float) -> None:
        threads = max(1, int(available_cores()))  # as of one worker
        self._classifier = Classifier.load(model, threads=threads)
        self._folder = folder
        self._seconds = seconds
        image = image_bytes(SMALL)
        card = self._classifier.card
        pixels = decode_image(image, self._classifier.input_size, card.input.resize).pixels
        self._batch = np.repeat(pixels[None], BATCH, axis=0)
        prefix = len(image).to_bytes(4, "little")
        self.bodies = {
            PREDICT: self._body("image", image, PREDICT, ()),
            FILES: self._infer("files", "BYTES", (1,), prefix + image),
            TENSOR: self._infer("tensor", "UINT8", (1, *pixels.shape), pixels.tobytes()),
            TENSORS: self._infer(
                "batch", "UINT8", self._batch.shape, self._batch.tobytes(), binary=True
            ),
        }

    def run(self, server: Server, rounds: int) -> None:
        """Ask a server, and print what is found."""
        found: dict[str, list[Rate]] = {FILES: [], TENSOR: [], TENSORS: []}
        for number in range(1, rounds + 1):
            before = self._rate(server, self.bodies[PREDICT], CONNECTIONS)
            rates = {
                name: self._rate(server, self.bodies[name], CONNECTIONS) for name in (FILES, TENSOR)
            }
            predict = before.mean(self._rate(server, self.bodies[PREDICT], CONNECTIONS))
            for name, rate in rates.items():
                found[name].append(rate.over(predict))
            before = self._alone()
            batches = self._rate(server, self.bodies[TENSORS], BATCH_CONNECTIONS)
            alone = before.mean(self._alone())
            found[TENSORS].append(batches.over(alone))
            say(f"{number}: " + _line({name: ratios[-1] for name, ratios in found.items()}))
        say("median: " + _line({name: _median(each) for name, each in found.items()}))

    def _infer(
        self, name: str, datatype: str, shape: tuple[int, ...], data: bytes, *, binary: bool = False
    ) -> Body:
        size = {"binary_data_size": len(data)}
        tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": size}
        request = {"inputs": [tensor], "parameters": {"binary_data_output": binary}}
        head = json.dumps(request).encode()
        path = f"/v2/models/{self._classifier.card.name}/infer"
        return self._body(
            name, head + data, path, (f"Inference-Header-Content-Length: {len(head)}",)
        )

    def _body(self, name: str, data: bytes, path: str, fields: tuple[str, ...]) -> Body:
        file = self._folder / name
        file.write_bytes(data)
        return Body(file, "application/octet-stream", path, fields)

    def _rate(self, server: Server, body: Body, connections: int) -> Rate:
        before = sum(server.cpu_seconds().values())
        load = run_load(server.port, body, connections, self._seconds)
        spent = sum(server.cpu_seconds().values()) - before
        if load.refused or load.lost:
            raise Refused(f"{body.path}: {load.refused} refused, {load.lost} lost")
        return Rate(load.good, load.answers / spent)

    def _alone(self) -> Rate:
        """Batches a second of the network."""
        number, begun, used = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - begun) < self._seconds / 2:
            self._classifier.predict(self._batch)
            number += 1
        return Rate(number / spent, number / (time.process_time() - used))


def _median(rates: list[Rate]) -> Rate:
    return Rate(*(statistics.median(each) for each in zip(*rates, strict=True)))


def _line(ratios: dict[str, Rate]) -> str:
    files, tensor, tensors = (
        f"{name} {ratios[name].by_clock:.2f} ({ratios[name].by_cpu:.2f})"
        for name in (FILES, TENSOR, TENSORS)
    )
    return f"{files} and {tensor} of {PREDICT}, {tensors} of the network alone"


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.dialects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="default", help=f"a file, or one of {', '.join(MODELS)}")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2, help="of each load: %(default)s")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="labelserve-dialects-") as name:
        folder = Path(name)
        model = model_file(chosen.model, folder)
        server = Server(OURS, model, 1, folder)
        try:
            server.wait_until_ready(image_bytes(SMALL))
            say(f"{processor()}\n{model.name}, one worker, {CONNECTIONS} connections")
            Dialects(model, folder, chosen.seconds).run(server, chosen.rounds)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
