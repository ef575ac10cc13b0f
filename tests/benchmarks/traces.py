"""What traces cost: the time of the slowest hundredth, and answers, with and without them.

    python -m tests.benchmarks.traces [--share S ...] [--rounds N] [--seconds S] [--connections N]

A service without traces and one for each share of sampled requests run side by side, and export to
a collector of this process. They are loaded in turns. What counts are ratios: of a load, and of the
mean of the two loads of a service without traces before and after it. Answers are those of a
second, and those of a second of the worker's CPU time, which other processes disturb less. The
first line is of a service without traces, too: it says how far equals are apart.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks.load import Body, run_load
from tests.benchmarks.measure import say
from tests.collector import collecting
from tests.images import encode, photograph
from tests.load.soak import MODEL
from tests.server import Server, start_server


class Seen(NamedTuple):
    """Of one load: ms, answers a second, answers a second of the worker's CPU time."""

    p99: float
    by_clock: float
    by_cpu: float

    def over(self, before: "Seen", after: "Seen") -> "Seen":
        """As ratios of a mean."""
        return Seen(*(2 * x / (y + z) for x, y, z in zip(self, before, after, strict=True)))


def measure(shares: Sequence[float], rounds: int, seconds: float, connections: int) -> None:
    """Load the services in turns, and print what is found."""
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "image.jpg"
        file.write_bytes(encode(photograph(1, 32, 32), "JPEG"))
        body = Body(file, "image/jpeg")
        collector = stack.enter_context(collecting())

        def started(share: float | None) -> Server:
            sampled: dict[str, object] = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": share,
            }
            environ = {} if share is None else sampled
            return stack.enter_context(start_server(MODEL, workers=1, **environ))

        def load(server: Server) -> Seen:
            begun = _cpu_seconds(server)
            found = run_load(server.port, body, connections, seconds)
            spent = _cpu_seconds(server) - begun
            return Seen(found.p99_ms, found.good, found.answers / spent)

        plain = started(None)
        others = {
            "no traces": started(None),
            **{f"{share:.0%} sampled": started(share) for share in shares},
        }
        found: dict[str, list[Seen]] = {name: [] for name in others}
        for server in (plain, *others.values()):  # warmed up
            load(server)
        for _ in range(rounds):
            before = load(plain)
            for name, server in others.items():
                this, after = load(server), load(plain)
                found[name].append(this.over(before, after))
                before = after
        for name, ratios in found.items():
            p99, by_clock, by_cpu = (_told(each) for each in zip(*ratios, strict=True))
            say(f"{name}: p99 {p99}, answers {by_clock}, by CPU time {by_cpu}")
        dropped = {n: s.metric("labelserve_spans_dropped_total") for n, s in others.items()}
        say(f"spans: {len(collector.spans)} taken; dropped: {dropped}")


def _cpu_seconds(server: Server) -> float:
    """Of its one worker, so far."""
    (worker,) = server.workers
    fields = Path(f"/proc/{worker}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _told(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.traces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--share", type=float, nargs="+", default=[0.01, 1.0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=4)
    chosen = parser.parse_args()
    measure(chosen.share, chosen.rounds, chosen.seconds, chosen.connections)


if __name__ == "__main__":
    main()
