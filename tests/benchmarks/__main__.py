"""Throughput, latency, memory and start, side by side with plain Flask and FastAPI servers.

    python -m tests.benchmarks [--quick] [--hogging RUNS]

Writes results/bench.json, and unless --quick or other servers or models are asked for, the tables
and the plot of docs/performance.md. A full run takes some 20 minutes; nothing else should run.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.hogging import look_for_hogs
from tests.benchmarks.images import SMALL, image_bytes
from tests.benchmarks.load import Body
from tests.benchmarks.measure import Bench, say
from tests.benchmarks.models import DEFAULT, model_file
from tests.benchmarks.plan import full_plan, quick_plan
from tests.benchmarks.plot import plot
from tests.benchmarks.report import replace_between, tables
from tests.benchmarks.servers import OURS, SERVERS
from tests.server import ROOT

PAGE = ROOT / "docs/performance.md"
PLOT = ROOT / "docs/images/performance.png"


def main(arguments: list[str] | None = None) -> int:
    """Measure; the exit status."""
    chosen = _parser().parse_args(arguments)
    servers = tuple(name for name in SERVERS if name in chosen.servers.split(","))
    _allow_many_connections()
    if os.getloadavg()[0] > 0.5:
        say("the machine is busy with something else: what follows is worth little")
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="labelserve-bench-") as name:
        folder = Path(name)
        if chosen.hogging:
            return _hogging(servers, chosen.model, chosen.hogging, folder)
        plan = (
            quick_plan(chosen.model)
            if chosen.quick
            else full_plan(chosen.model, chosen.rounds, chosen.seconds)
        )
        results = Bench(plan, servers, folder).run()
    (chosen.out / "bench.json").write_text(results.to_json(), encoding="utf-8")
    text = tables(plan, results)
    say(text)
    plot(plan, results, chosen.out / PLOT.name)
    if not chosen.quick and chosen.model == DEFAULT and servers == SERVERS:
        say("writing docs/performance.md")
        plot(plan, results, PLOT)
        replace_between(PAGE, "results", f"![Throughput and latency](images/{PLOT.name})\n\n{text}")
    return 0


def _hogging(servers: tuple[str, ...], model: str, runs: int, folder: Path) -> int:
    """1 where one of this project's workers got nothing in a run."""
    file = folder / "body"
    file.write_bytes(image_bytes(SMALL))
    said, idle = [], 0
    for name in servers if servers != SERVERS else (OURS,):
        shares = look_for_hogs(
            name, model_file(model, folder), Body(file, "image/jpeg"), runs, folder
        )
        said.append(f"{name}: {shares.summary()}")
        idle += shares.idle if name == OURS else 0
    say("\n".join(said))
    return int(idle > 0)


def _allow_many_connections() -> None:
    """What wrk and the servers inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a look at everything in two minutes")
    parser.add_argument(
        "--hogging",
        type=int,
        metavar="RUNS",
        help="only look for workers that get nothing (of labelserve, unless --servers says more)",
    )
    parser.add_argument("--servers", default=",".join(SERVERS), help="default: %(default)s")
    parser.add_argument(
        "--model", default=DEFAULT, help="an .onnx with its card, for the default's"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4, help="of each load: %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="default: results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
