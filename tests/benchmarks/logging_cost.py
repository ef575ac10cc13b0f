"""What a line of log for every request costs: throughput with it over throughput without.

    python -m tests.benchmarks.logging_cost [--pairs N] [--seconds S]

Two services run side by side, one that writes its lines and one that is told to write errors only;
they are loaded in turns, and what counts is the ratio within a pair.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.load import Body, run_load
from tests.images import encode, photograph
from tests.load.soak import MODEL
from tests.server import Server, start_server

CONNECTIONS = 16


def ratios(pairs: int, seconds: float) -> list[float]:
    """Good answers with logging over good answers without it, pair by pair."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(MODEL, workers=2, log_level="info") as loud,
        start_server(MODEL, workers=2, log_level="error") as quiet,
    ):
        file = Path(folder) / "image.jpg"
        file.write_bytes(encode(photograph(1, 32, 32), "JPEG"))
        body = Body(file, "image/jpeg")

        def good(server: Server) -> float:
            return run_load(server.port, body, CONNECTIONS, seconds).good

        good(loud), good(quiet)  # warmed up
        return [good(loud) / good(quiet) for _ in range(pairs)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.logging_cost", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    seen = sorted(ratios(chosen.pairs, chosen.seconds))
    sys.stdout.write(
        f"with logging / without: median {median(seen):.3f}, {seen[0]:.3f} to {seen[-1]:.3f}\n"
    )


if __name__ == "__main__":
    main()
