"""Results as a chart: what throughput and latency grow and fall with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.benchmarks.measure import Measured, Results
from tests.benchmarks.plan import Cell, Plan
from tests.benchmarks.report import Rounds, good
from tests.benchmarks.servers import SERVERS

_COLOURS = dict(zip(SERVERS, ("#1f77b4", "#999999", "#d95f02"), strict=True))


def plot(plan: Plan, results: Results, path: Path) -> None:
    """Write the chart."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    panels = [
        ("concurrency", "good answers a second", good),
        ("concurrency", "p99, ms", _p99),
        ("image", "good answers a second", good),
        ("model", "good answers a second", good),
    ]
    for axis, (name, title, what) in zip(axes.flat, panels, strict=True):
        _lines(axis, results, plan.tables[name], what)
        axis.set_title(f"{title}, by {name}", fontsize=10)
    axes[0, 0].set_ylim(bottom=0)
    for axis in axes.flat[1:]:
        axis.set_yscale("log")
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def _p99(found: Measured) -> float:
    return found.load.p99_ms


def _lines(
    axis: Any,
    results: Results,
    cells: dict[str, Cell],
    what: Callable[[Measured], float],
) -> None:
    for server in SERVERS:
        rounds = {row: Rounds(results, server, cell) for row, cell in cells.items()}
        known = {row: found for row, found in rounds.items() if found}
        if not known:
            continue
        middle = [found.median(what) for found in known.values()]
        axis.plot(list(known), middle, marker="o", color=_COLOURS[server], label=server)
        least = [min(found.values(what)) for found in known.values()]
        most = [max(found.values(what)) for found in known.values()]
        axis.fill_between(list(known), least, most, color=_COLOURS[server], alpha=0.2, linewidth=0)
    axis.grid(visible=True, alpha=0.3)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8)
