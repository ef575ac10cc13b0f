"""What explanations cost those who ask for predictions: /predict's times with and without.

    python -m tests.benchmarks.explaining [--model FILE] [--worker NAME] [--moments N] [--load S]

A service is asked for predictions at a fixed rate (an open loop, by default half of what it can
answer), one second without explanations and one second while clients ask for one explanation after
the other, in turn. A machine that does something else as well is slower in some seconds than in
others, which meets both alike.
"""

import argparse
import asyncio
from pathlib import Path

from service.settings import DEFAULT_MODEL
from tests.benchmarks.images import SMALL, image_bytes
from tests.benchmarks.load import closed_loop
from tests.benchmarks.measure import say
from tests.load.open_loop import Outcome, http_request, offer
from tests.server import WORKERS, start_server

# Clients that ask for explanations: one at a time is made in each worker, the others wait.
EXPLAINING = 4
CONNECTIONS = 8
PEAK_SECONDS = 3.0
SECONDS = 1.0


class Comparison:
    """Predictions without explanations and beside them, and how many explanations were made."""

    def __init__(self, port: int, image: bytes, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._predict, self._explain = (
            http_request("POST", path, image) for path in ("/predict", "/explain")
        )
        self.alone, self.beside = Outcome(0.0), Outcome(0.0)
        self.explanations = 0

    async def ask_alone(self) -> None:
        """A moment without explanations."""
        await self._offer(self.alone)

    async def ask_beside(self) -> None:
        """A moment with some."""
        asking = closed_loop(self._port, self._explain, EXPLAINING, SECONDS)
        _, explained = await asyncio.gather(self._offer(self.beside), asking)
        self.explanations += explained.answers - explained.refused

    async def _offer(self, into: Outcome) -> None:
        found = await offer(self._port, [self._predict], self._rate, SECONDS)
        into.seconds += found.seconds
        for status, times in found.latencies.items():
            into.latencies[status] += times

    def __str__(self) -> str:
        lines = [
            f"{name}: {outcome.counts[200]} of {outcome.counts.total()} predictions answered,"
            f" p50 {outcome.quantile(200, 0.5) * 1e3:.1f} ms,"
            f" p99 {outcome.quantile(200, 0.99) * 1e3:.1f} ms"
            for name, outcome in (("alone", self.alone), ("beside", self.beside))
        ]
        p50, p99 = (
            self.beside.quantile(200, share) / self.alone.quantile(200, share)
            for share in (0.5, 0.99)
        )
        return "\n".join(
            [*lines, f"beside {self.explanations} explanations: p50 x {p50:.2f}, p99 x {p99:.2f}"]
        )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print both, and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.explaining", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--worker", choices=WORKERS, default=WORKERS[0])
    parser.add_argument("--moments", type=int, default=20, help="seconds of each kind")
    parser.add_argument("--load", type=float, default=0.5, help="share of what can be answered")
    chosen = parser.parse_args(arguments)
    image = image_bytes(SMALL)
    with start_server(chosen.model, worker=chosen.worker) as server:
        predict = http_request("POST", "/predict", image)
        peak = asyncio.run(closed_loop(server.port, predict, CONNECTIONS, PEAK_SECONDS)).good
        rate = chosen.load * peak
        say(f"{chosen.worker}: {peak:.0f} predictions a second at most, {rate:.0f} offered")
        found = Comparison(server.port, image, rate)
        for number in range(chosen.moments):
            first, second = found.ask_alone, found.ask_beside
            for ask in (first, second) if number % 2 == 0 else (second, first):
                asyncio.run(ask())
        say(str(found))


if __name__ == "__main__":
    main()
