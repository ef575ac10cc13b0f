"""What explanations cost those who ask for predictions: /predict's times with and without.

    python -m tests.benchmarks.explaining [--model FILE] [--worker NAME] [--stretches N] [--load S]

A service is asked for predictions at a fixed rate (an open loop, by default half of what it can
answer), some seconds without explanations and some while clients ask for one explanation after the
other, in turn. Of each stretch there are quantiles, and of these the medians: where the machine
stands still once in a while, that is told by a few stretches and not by the others.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

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
SECONDS = 4.0
QUANTILES = (0.5, 0.9, 0.95, 0.99)


class Comparison:
    """Stretches without explanations and beside them, and how many explanations were made."""

    def __init__(self, port: int, image: bytes, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._predict, self._explain = (
            http_request("POST", path, image) for path in ("/predict", "/explain")
        )
        self.alone: list[Outcome] = []
        self.beside: list[Outcome] = []
        self.explanations = 0

    async def ask_alone(self) -> None:
        """A stretch without explanations."""
        self.alone.append(await self._offer())

    async def ask_beside(self) -> None:
        """A stretch with some."""
        asking = closed_loop(self._port, self._explain, EXPLAINING, SECONDS)
        found, explained = await asyncio.gather(self._offer(), asking)
        self.beside.append(found)
        self.explanations += explained.answers - explained.refused

    async def _offer(self) -> Outcome:
        return await offer(self._port, [self._predict], self._rate, SECONDS)

    def __str__(self) -> str:
        alone, beside = _medians(self.alone), _medians(self.beside)
        ratios = [with_ / without for with_, without in zip(beside, alone, strict=True)]
        told = ", ".join(
            f"p{100 * q:.0f} x {ratio:.2f}" for q, ratio in zip(QUANTILES, ratios, strict=True)
        )
        lines = (_line("alone", self.alone), _line("beside", self.beside))
        return "\n".join([*lines, f"beside {self.explanations} explanations: {told}"])


def _medians(stretches: Sequence[Outcome]) -> list[float]:
    """Of each of ``QUANTILES``, the median over all stretches."""
    return [median(each.quantile(200, q) for each in stretches) for q in QUANTILES]


def _line(name: str, stretches: Sequence[Outcome]) -> str:
    counts = sum((each.counts for each in stretches), Counter[int]())
    told = ", ".join(
        f"p{100 * q:.0f} {value * 1e3:.1f} ms"
        for q, value in zip(QUANTILES, _medians(stretches), strict=True)
    )
    return f"{name}: {counts[200]} of {counts.total()} predictions answered, {told}"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print both, and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.explaining", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--worker", choices=WORKERS, default=WORKERS[0])
    parser.add_argument("--stretches", type=int, default=8, help=f"of each kind, {SECONDS:g} s")
    parser.add_argument("--load", type=float, default=0.5, help="share of what can be answered")
    chosen = parser.parse_args(arguments)
    image = image_bytes(SMALL)
    with start_server(chosen.model, worker=chosen.worker) as server:
        predict = http_request("POST", "/predict", image)
        peak = asyncio.run(closed_loop(server.port, predict, CONNECTIONS, PEAK_SECONDS)).good
        rate = chosen.load * peak
        say(f"{chosen.worker}: {peak:.0f} predictions a second at most, {rate:.0f} offered")
        found = Comparison(server.port, image, rate)
        for number in range(chosen.stretches):
            first, second = found.ask_alone, found.ask_beside
            for ask in (first, second) if number % 2 == 0 else (second, first):
                asyncio.run(ask())
        say(str(found))


if __name__ == "__main__":
    main()
