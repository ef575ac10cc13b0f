"""Does a worker get nothing? Runs of a few kept-alive connections, and what each worker did."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.load import Body, run_load
from tests.benchmarks.measure import say
from tests.benchmarks.servers import Server

CONNECTIONS = 16
SECONDS = 2.0
WORKERS = 2
# A worker that answers uses most of a core; one that idles looks at a clock now and then.
NOTHING = 0.05


@dataclass(frozen=True)
class Shares:
    """For each run, what each worker did of the work of all (CPU time), least first."""

    runs: list[list[float]]

    @property
    def idle(self) -> int:
        """Runs with a worker that got nothing."""
        return sum(shares[0] < NOTHING for shares in self.runs)

    def summary(self) -> str:
        """One line."""
        least = [shares[0] for shares in self.runs]
        return (
            f"{len(self.runs)} runs of {CONNECTIONS} connections: in {self.idle} a worker got"
            f" nothing; the lesser worker did {median(least):.0%} of the work in the median run,"
            f" {min(least):.0%} in the worst"
        )


def shares_of(used: dict[int, float], workers: int) -> list[float]:
    """Shares of the busiest processes, least first, from CPU seconds by process."""
    busiest = sorted(used.values())[-workers:]
    busiest = [0.0] * (workers - len(busiest)) + busiest
    return [seconds / (sum(busiest) or 1.0) for seconds in busiest]


def look_for_hogs(name: str, model: Path, body: Body, runs: int, folder: Path) -> Shares:
    """Load a server again and again, with new connections each time."""
    server = Server(name, model, WORKERS, folder)
    found = []
    try:
        server.wait_until_ready(body.file.read_bytes())
        run_load(server.port, body, CONNECTIONS, 1)
        for number in range(1, runs + 1):
            before = server.cpu_seconds()
            load = run_load(server.port, body, CONNECTIONS, SECONDS)
            after = server.cpu_seconds()
            used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
            found.append(shares_of(used, WORKERS))
            parts = " ".join(f"{share:.0%}" for share in found[-1])
            say(f"run {number}: {name} {load.good:.0f}/s, shares {parts}")
    finally:
        server.stop()
    return Shares(found)
