"""What explanations cost those who ask for predictions: /predict's times with and without.

    python -m tests.benchmarks.explaining [--model FILE] [--worker NAME] [--pairs N] [--seconds S]

A service is asked for predictions at a fixed rate (an open loop, by default half of what it can
answer), in turn without explanations and while clients ask for one explanation after the other. A
machine that does something else as well is slower in some seconds than in others, so each time is
held against one of the moments beside it; the medians of all pairs are printed.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from service.settings import DEFAULT_MODEL
from tests.benchmarks.load import closed_loop
from tests.benchmarks.measure import say
from tests.images import encode, photograph
from tests.load.open_loop import Outcome, http_request, offer
from tests.server import WORKERS, start_server

# Clients that ask for explanations: one at a time is made in each worker, and some wait.
EXPLAINING = 4
CONNECTIONS = 8


@dataclass(frozen=True)
class Pair:
    """Predictions of two moments beside each other, and the explanations made in the second."""

    alone: Outcome
    beside: Outcome
    explained: int

    def ratio(self, quantile: float) -> float:
        """Of the latencies: beside explanations, over without."""
        return self.beside.quantile(200, quantile) / self.alone.quantile(200, quantile)

    def __str__(self) -> str:
        times = [
            f"p{100 * share:.0f} {one.quantile(200, share) * 1e3:.1f} ms"
            for one in (self.alone, self.beside)
            for share in (0.5, 0.99)
        ]
        return (
            f"alone {times[0]}, {times[1]}; beside {self.explained} explanations {times[2]},"
            f" {times[3]}: p99 x {self.ratio(0.99):.2f}"
        )


async def measured(
    port: int, image: bytes, rate: float, seconds: float, *, alone_first: bool
) -> Pair:
    """Both moments, each of so many seconds, in this order or the other."""
    predict, explain = (http_request("POST", path, image) for path in ("/predict", "/explain"))
    alone = await offer(port, [predict], rate, seconds) if alone_first else None
    beside, explained = await asyncio.gather(
        offer(port, [predict], rate, seconds),
        closed_loop(port, explain, EXPLAINING, seconds),
    )
    alone = alone or await offer(port, [predict], rate, seconds)
    return Pair(alone, beside, explained.answers - explained.refused)


def summary(pairs: Sequence[Pair]) -> str:
    """A line on all pairs."""
    ratios = {share: median(pair.ratio(share) for pair in pairs) for share in (0.5, 0.99)}
    lost = sum(pair.beside.counts.total() - pair.beside.counts[200] for pair in pairs)
    return (
        f"/predict beside explanations, median of {len(pairs)} pairs: p50 x {ratios[0.5]:.2f},"
        f" p99 x {ratios[0.99]:.2f}; {lost} predictions refused or lost"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print each pair, and the medians."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.explaining", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--worker", choices=WORKERS, default=WORKERS[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--load", type=float, default=0.5, help="share of what can be answered")
    chosen = parser.parse_args(arguments)
    image = encode(photograph(0, 32, 32), "JPEG")
    with start_server(chosen.model, worker=chosen.worker) as server:
        predict = http_request("POST", "/predict", image)
        peak = asyncio.run(closed_loop(server.port, predict, CONNECTIONS, chosen.seconds)).good
        rate = chosen.load * peak
        say(f"{chosen.worker}: {peak:.0f} predictions a second at most, {rate:.0f} offered")
        pairs = []
        for number in range(chosen.pairs):
            one = measured(server.port, image, rate, chosen.seconds, alone_first=number % 2 == 0)
            pairs.append(asyncio.run(one))
            say(str(pairs[-1]))
        say(summary(pairs))


if __name__ == "__main__":
    main()
