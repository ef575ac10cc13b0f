"""What traces cost: the time of the slowest hundredth, and answers a second, with and without.

    python -m tests.benchmarks.traces [--share S ...] [--pairs N] [--seconds S] [--connections N]

A service without traces and one for each share of sampled requests run side by side, and export to
a collector of this process. They are loaded in turns. What counts are the ratios within a round:
of the mean p99 of two loads without traces, before and after, and that of the load between them.
The first line is of a service without traces, too: it says how far equals are apart.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmarks.load import Body, Load, run_load
from tests.benchmarks.measure import say
from tests.collector import collecting
from tests.images import encode, photograph
from tests.load.soak import MODEL
from tests.server import Server, start_server

# A ratio of p99, and one of answers a second.
Ratios = tuple[float, float]


def measure(shares: Sequence[float], pairs: int, seconds: float, connections: int) -> None:
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

        def load(server: Server) -> Load:
            return run_load(server.port, body, connections, seconds)

        plain = started(None)
        others = {
            "no traces": started(None),
            **{f"{share:.0%} sampled": started(share) for share in shares},
        }
        found: dict[str, list[Ratios]] = {name: [] for name in others}
        for server in (plain, *others.values()):  # warmed up
            load(server)
        for _ in range(pairs):
            before = load(plain)
            for name, server in others.items():
                this, after = load(server), load(plain)
                found[name].append(_ratios(this, before, after))
                before = after
        for name, ratios in found.items():
            say(
                f"{name}: p99 {_told([one[0] for one in ratios])}, "
                f"answers/s {_told([one[1] for one in ratios])}"
            )
        dropped = {n: s.metric("labelserve_spans_dropped_total") for n, s in others.items()}
        say(f"spans: {len(collector.spans)} taken; dropped: {dropped}")


def _ratios(this: Load, before: Load, after: Load) -> Ratios:
    return (
        2 * this.p99_ms / (before.p99_ms + after.p99_ms),
        2 * this.good / (before.good + after.good),
    )


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
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=4)
    chosen = parser.parse_args()
    measure(chosen.share, chosen.pairs, chosen.seconds, chosen.connections)


if __name__ == "__main__":
    main()
