"""Results as tables of docs/performance.md: medians of the rounds, between the page's markers."""

import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median

from service.runtime.machine import available_cores
from tests.benchmarks.load import WRK
from tests.benchmarks.measure import Measured, Results
from tests.benchmarks.plan import Cell, Plan
from tests.benchmarks.servers import OURS

_TITLES = {
    "concurrency": "Connections",
    "image": "Images",
    "model": "Models",
    "workers": "Workers",
    "batch": "Images in one form (`/predict/batch`)",
}
# What a table's rows are called, where not as the table.
_ROWS = {"concurrency": "connections", "batch": "images a form"}


class Rounds:
    """What one server did in one cell, round by round."""

    def __init__(self, results: Results, server: str, cell: Cell) -> None:
        self._found = {
            found.round: found
            for found in results.measured
            if found.server == server and found.cell == cell
        }

    def __bool__(self) -> bool:
        return bool(self._found)

    def values(self, what: Callable[[Measured], float]) -> list[float]:
        """One figure of every round."""
        return [what(found) for found in self._found.values()]

    def median(self, what: Callable[[Measured], float]) -> float:
        """Its median."""
        return median(self.values(what))

    def ratio(self, other: "Rounds") -> float:
        """Good answers over another server's of the same round; the median of the rounds."""
        return median(
            mine.load.good / other._found[number].load.good
            for number, mine in self._found.items()
            if other._found[number].load.good
        )


def good(found: Measured) -> float:
    """Images answered a second."""
    return found.load.good * max(1, found.cell.batch)


def tables(plan: Plan, results: Results) -> str:
    """Every table of the plan, and what starting takes."""
    peers = sorted({found.server for found in results.measured} - {OURS})
    parts = [_preface(plan)]
    for name, cells in plan.tables.items():
        beside = [] if name == "batch" else peers
        parts += [f"### {_TITLES[name]}", _about(name, cells), _table(name, cells, results, beside)]
    parts += ["### Start and memory", _starts(results)]
    return "\n\n".join(parts)


def _preface(plan: Plan) -> str:
    with_ = "wrk, one thread" if WRK else "a closed loop in Python"
    return (
        f"{platform.machine()}, {available_cores():g} cores, Python {platform.python_version()};"
        f" medians of {plan.rounds} rounds of {plan.seconds:g} s, load from the same cores"
        f" ({with_}). `/s` counts images with a good answer, least to most in brackets;"
        " `of limit` is their share of what all cores do without HTTP, one image at a time"
        " through Pillow and onnxruntime, just before and after; `ratio` is this project over the"
        " other in the same round."
    )


def _about(name: str, cells: dict[str, Cell]) -> str:
    """What the rows have in common."""
    cell = next(iter(cells.values()))
    common = {
        "model": f"model `{Path(cell.model).stem}`",
        "workers": f"{cell.workers} workers",
        "image": f"image {cell.image}",
        "concurrency": f"{cell.connections} connections",
    }
    return ", ".join(text for key, text in common.items() if key != name).capitalize() + "."


def _table(name: str, cells: dict[str, Cell], results: Results, peers: list[str]) -> str:
    heads = [_ROWS.get(name, name), f"{OURS} /s", "p50 ms", "p99 ms", "of limit", "refused"]
    for peer in peers:
        heads += [f"{peer} /s", "p50 ms", "p99 ms", "ratio"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for row, cell in cells.items():
        ours = Rounds(results, OURS, cell)
        if not ours:
            continue
        values = [row, _spread(ours.values(good)), *_latency(ours)]
        values += [f"{ours.median(lambda found: found.of_limit):.2f}", _refused(ours)]
        for peer in peers:
            theirs = Rounds(results, peer, cell)
            ratio = f"{ours.ratio(theirs):.2f}"
            values += [f"{theirs.median(good):.0f}", *_latency(theirs), f"**{ratio}**"]
        lines.append(f"| {' | '.join(values)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    digits = 0 if median(values) >= 100 else 1
    least, most = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return f"{median(values):.{digits}f} [{least} to {most}]"


def _latency(rounds: Rounds) -> list[str]:
    figures = (
        rounds.median(lambda found: found.load.p50_ms),
        rounds.median(lambda found: found.load.p99_ms),
    )
    return [f"{figure:.3g}" for figure in figures]


def _refused(rounds: Rounds) -> str:
    share = rounds.median(lambda found: found.load.refused / max(1, found.load.answers))
    return f"{share:.0%}" if share else "0"


def _starts(results: Results) -> str:
    heads = ["server", "model", "workers", "ready, s", "memory, MB (PSS)"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---:|---:|---:|"]
    setups = dict.fromkeys((one.server, one.model, one.workers) for one in results.started)
    for setup in sorted(setups):
        some = [one for one in results.started if (one.server, one.model, one.workers) == setup]
        ready = median(one.ready_seconds for one in some)
        held = median(one.memory_bytes for one in some) / 1e6
        server, model, workers = setup
        cells = [server, Path(model).stem, str(workers), f"{ready:.2f}", f"{held:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replace_between(page: Path, marker: str, text: str) -> None:
    """Put text between a page's markers; what stands around them stays.

    Raises:
        ValueError: the page has no such markers, or several.
    """
    begin, end = f"<!-- bench:{marker} -->", f"<!-- /bench:{marker} -->"
    content = page.read_text(encoding="utf-8")
    before, found, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after:
        raise ValueError(f"{page} has not exactly one {begin} … {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
