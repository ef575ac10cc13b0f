"""Where the time of one ``POST /predict`` goes: microseconds of every step, without a network.

    python -m tests.benchmarks.profile [--model FILE] [--together N,…] [IMAGE …]

The steps are those of the loop, called one after the other in this process as the loop calls them:
requests come over a socket, metrics are in shared files, and every request has its line of log.
Medians over many turns of the loop; what is missing is the switch between processes.
"""

import argparse
import logging.config
import os
import select
import socket
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service import logs
from service.inference.classifier import Classifier
from service.settings import DEFAULT_MODEL, Settings
from service.transport.connection import RECEIVE_BYTES
from service.transport.parser import make_parser
from service.transport.predictions import JSON
from service.transport.request import Head, response_bytes
from service.web import metrics
from service.web.exchange import Exchange
from service.web.prediction import Opened, encode_answer
from service.web.service import Answer, Service
from tests.benchmarks.images import SMALL, image_bytes
from tests.load.open_loop import http_request

# In the order of a request.
STEPS = (
    "receive",
    "parse",
    "head",
    "begin",
    "check",
    "enter",
    "open",
    "decode",
    "stack",
    "infer",
    "rank",
    "encode",
    "leave",
    "response",
    "send",
    "settle",
)
# What is left of a request without HTTP.
WORK = ("open", "decode", "infer")


class Watch:
    """Adds the time since it was last looked at to a step; ``spent``: microseconds of each."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._begun = time.perf_counter()

    def lap(self, step: str) -> None:
        """This step has just ended."""
        self.spent[step] += (time.perf_counter() - self._begun) * 1e6
        self._begun = time.perf_counter()

    def skip(self) -> None:
        """What has just ended is no step of the loop's."""
        self._begun = time.perf_counter()


@dataclass(frozen=True)
class Arrived:
    """A request that has been let in, with its image."""

    head: Head
    exchange: Exchange
    opened: Opened
    pixels: NDArray[np.uint8]


class Profile:
    """One service, and requests for one image taken through it step by step."""

    def __init__(self, service: Service, image: bytes) -> None:
        self._service = service
        request = http_request("POST", "/predict", image)
        starts = range(0, len(request), RECEIVE_BYTES)
        self._pieces = [request[start : start + RECEIVE_BYTES] for start in starts]
        self._body: list[bytes] = []
        parser = service.settings.http_parser
        self._parser = make_parser(parser, lambda: False, self._body.append)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._client = socket.create_connection(listener.getsockname())
            self._connection, _ = listener.accept()
        for one in (self._client, self._connection):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poller = select.epoll()
        self._poller.register(self._connection, select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for opened in (self._client, self._connection, self._poller):
            opened.close()

    def run(self, together: int, seconds: float) -> dict[str, float]:
        """Microseconds of each step for one request, of ``together`` that are ready at once."""
        for _ in range(5):  # caches fill, and the first request makes series that the rest count in
            self._turn(together)
        turns = [self._turn(together)]
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            turns.append(self._turn(together))
        return {step: median(spent[step] for spent in turns) / together for step in STEPS}

    def _turn(self, together: int) -> dict[str, float]:
        """What one turn of the loop does (``service.transport``)."""
        watch = Watch()
        some = [self._arrive(watch) for _ in range(together)]
        exchanges = [one.exchange for one in some]
        pixels = [one.pixels for one in some]
        predictor = self._service.predictor
        watch.skip()
        rows = predictor.classify(predictor.classifier, pixels, exchanges)
        watch.lap("classify")
        watch.spent["infer"] = exchanges[0].phases["inference"] * 1e6
        watch.spent["stack"] = watch.spent["classify"] - watch.spent["infer"]
        bodies = [self._encode(one, row, watch) for one, row in zip(some, rows, strict=True)]
        for one, body in zip(some, bodies, strict=True):
            self._answer(one, body, watch)
        self._service.settle()
        watch.lap("settle")
        return watch.spent

    def _arrive(self, watch: Watch) -> Arrived:
        service = self._service
        self._body.clear()
        self._parser.reset()
        for piece in self._pieces:
            self._client.sendall(piece)
            missing = len(piece)
            watch.skip()
            while missing:
                self._poller.poll(1)
                data = self._connection.recv(missing)
                missing -= len(data)
                watch.lap("receive")
                self._parser.feed(data)
                watch.lap("parse")
        head = Head.of(self._parser)
        watch.lap("head")
        exchange = service.begin(head.method, head.headers)
        exchange.route = head.path
        watch.lap("begin")
        service.check_head(head.path, head.headers, head.length)
        watch.lap("check")
        service.admission.enter(exchange)
        watch.lap("enter")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        exchange.bytes_in = len(body)
        content_type = head.headers.get("Content-Type", "")
        opened = service.predictor.open(body, content_type, None, exchange)
        watch.lap("open")
        pixels = service.predictor.decode(opened, exchange)
        watch.lap("decode")
        return Arrived(head, exchange, opened, pixels)

    def _encode(self, one: Arrived, row: NDArray[np.float32], watch: Watch) -> bytes:
        classifier = one.opened.classifier
        predictions = classifier.rank(row)
        watch.lap("rank")
        one.exchange.top.append(predictions[0])
        body = encode_answer(classifier, {"predictions": predictions})
        watch.lap("encode")
        return body

    def _answer(self, one: Arrived, body: bytes, watch: Watch) -> None:
        self._service.admission.leave(one.exchange)
        watch.lap("leave")
        headers = JSON | self._service.finish_later(one.exchange, 200)
        data = response_bytes(Answer(200, headers, body), one.head, "now", close=False)
        watch.lap("response")
        self._connection.send(data)
        watch.lap("send")
        self._client.recv(RECEIVE_BYTES)
        watch.skip()


def table(columns: dict[str, dict[str, float]]) -> str:
    """The steps as rows, a column for every profile."""
    lines = [f"| µs a request | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    everything = {name: sum(steps.values()) for name, steps in columns.items()}
    for step in STEPS:
        cells = [f"{steps[step]:.1f}" for steps in columns.values()]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    cells = [f"**{whole:.0f}**" for whole in everything.values()]
    lines.append(f"| **all** | {' | '.join(cells)} |")
    work = {name: sum(steps[step] for step in WORK) for name, steps in columns.items()}
    cells = [f"{work[name] / everything[name]:.0%}" for name in columns]
    lines.append(f"| of it {', '.join(WORK)} | {' | '.join(cells)} |")
    return "\n".join(lines)


@contextmanager
def worker_service(model: Path) -> Iterator[Service]:
    """A worker's service, with logging and metrics as they are when it serves."""
    settings = Settings(model=model)
    configuration = logs.configuration(settings)
    with (
        tempfile.TemporaryDirectory(prefix="labelserve-profile-") as folder,
        (Path(folder) / "log").open("w", encoding="utf-8") as stream,
    ):
        configuration["handlers"]["stdout"]["stream"] = stream
        logging.config.dictConfig(configuration)
        os.environ[metrics.FOLDER_VARIABLE] = folder
        metrics.use_slot(0)
        yield Service.start(settings, Classifier.load(model))
        logging.shutdown()


def profile(
    model: Path, images: dict[str, bytes], together: list[int], seconds: float
) -> dict[str, dict[str, float]]:
    """Microseconds of each step, for every image and number of requests that are ready at once."""
    columns = {}
    with worker_service(model) as service:
        for name, image in images.items():
            with Profile(service, image) as one:
                for count in together:
                    columns[f"{name}, {count} together"] = one.run(count, seconds)
    return columns


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGE", help="default: 32x32 JPEG")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="an .onnx with its card")
    parser.add_argument(
        "--together",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 4, 16],
        metavar="N,…",
        help="requests that are ready at the same moment (default: 1,4,16)",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each column (default: 3)")
    chosen = parser.parse_args(arguments)
    images = {path.name: path.read_bytes() for path in chosen.images} or {SMALL: image_bytes(SMALL)}
    columns = profile(chosen.model, images, chosen.together, chosen.seconds)
    sys.stdout.write(table(columns) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
