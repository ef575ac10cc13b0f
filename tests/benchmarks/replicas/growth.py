"""What each further replica adds."""

import asyncio
from statistics import median
from typing import NamedTuple

from tests.benchmarks.measure import say
from tests.benchmarks.replicas.cluster import LOAD, Cluster

NUMBERS = (1, 2, 4)


class Figures(NamedTuple):
    """Answers a second at most; at ``LOAD``, seconds until an answer, and requests without one."""

    rate: float
    p50: float
    p99: float
    lost: int

    def over(self, one: "Figures") -> "Figures":
        """As ratios to those of one replica."""
        return Figures(self.rate / one.rate, self.p50 / one.p50, self.p99 / one.p99, self.lost)


def grow(cluster: Cluster, rounds: int, seconds: float) -> str:
    """Every number of replicas once in each round; a table of the rounds' medians."""
    found: dict[int, list[Figures]] = {number: [] for number in NUMBERS}
    for _ in range(rounds):
        for number, ratios in found.items():
            one = found[1][-1].rate if number > 1 else None
            ratios.append(_measure(cluster, number, one, seconds))
    for number in reversed(NUMBERS):
        found[number] = [cell.over(one) for cell, one in zip(found[number], found[1], strict=True)]
    lines = [
        f"| replicas | answers/s | p50 at {LOAD:.0%} | p99 at {LOAD:.0%} | refused or lost |",
        "|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(_row(number, ratios) for number, ratios in found.items())])


def _measure(cluster: Cluster, number: int, one: float | None, seconds: float) -> Figures:
    """``one``: answers a second of one replica, if that is not what is measured."""
    with cluster.behind_nginx(number):
        rate = cluster.peak(seconds).good
        offered = LOAD * (rate if one is None else one * number)
        outcome = asyncio.run(cluster.offer(offered, seconds))
    p50, p99 = (outcome.quantile(200, share) for share in (0.5, 0.99))
    say(f"  {number}: {rate:.0f}/s, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    return Figures(rate, p50, p99, outcome.counts.total() - outcome.counts[200])


def _row(number: int, ratios: list[Figures]) -> str:
    rates, p50, p99, lost = zip(*ratios, strict=True)
    spread = f"{median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"
    return f"| {number} | {spread} | {median(p50):.2f} | {median(p99):.2f} | {sum(lost)} |"
