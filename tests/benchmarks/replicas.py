"""Replicas behind nginx: what each adds, what is lost when one goes, and what saturates first.

    python -m tests.benchmarks.replicas [--model FILE] [--cores C] [--rounds N] [--seconds S]

Each replica is a machine of its own: a network namespace, and a control group with the same part of
a core, so that four of them, nginx and the load fit into two cores. nginx has the committed
configuration, without its limit for one client. Needs root, nginx, and Linux with either version of
control groups. Prints tables; times are ratios within them.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.images import PHOTOGRAPH, SMALL, image_bytes
from tests.benchmarks.load import Body, Load, run_load
from tests.benchmarks.measure import say
from tests.benchmarks.models import model_file
from tests.benchmarks.precisions import processor
from tests.benchmarks.servers import cpu_seconds
from tests.load.hosts import CannotMake, Hosts
from tests.load.open_loop import Outcome, http_request, offer
from tests.load.replica import Replica, start_replica
from tests.monitoring.tools import find
from tests.nginx import example, start_nginx

NUMBERS = (1, 2, 4)
CONNECTIONS = 32
# Of what the replicas can answer: the docs' advice for the size of a service.
LOAD = 0.7
RAMP = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.5, 3.0)
# nginx's fail_timeout, and a moment more.
NOTICED_SECONDS = 6.0
NGINX_PORT = 80


class Cluster:
    """Replicas on machines of their own, the first of which stand behind nginx."""

    def __init__(self, nginx: str, replicas: list[Replica], folder: Path, image: str) -> None:
        self._nginx = nginx
        self.replicas = replicas
        self._folder = folder
        self._file = folder / "image"
        self._file.write_bytes(image_bytes(image))

    @contextmanager
    def behind_nginx(self, number: int) -> Iterator[None]:
        """The first ``number`` of them."""
        addresses = [f"{one.address}:{one.port}" for one in self.replicas[:number]]
        http = example(NGINX_PORT, addresses, rate="100000r/s")
        with start_nginx(self._nginx, self._folder, NGINX_PORT, http):
            yield

    def peak(self, seconds: float) -> Load:
        """What comes back from those behind nginx, when clients ask again at once."""
        return run_load(NGINX_PORT, Body(self._file, "image/jpeg"), CONNECTIONS, seconds)

    async def offer(self, rate: float, seconds: float) -> Outcome:
        """The same image at a fixed rate."""
        request = http_request("POST", "/predict", self._file.read_bytes())
        return await offer(NGINX_PORT, [request], rate, seconds, patience=60)

    @property
    def retries(self) -> int:
        """Requests that a replica did not answer, so that nginx had to do something about it."""
        lines = (self._folder / "error.log").read_text().splitlines()
        return sum(" upstream" in line and "[error]" in line for line in lines)


# ---- what each adds ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grown:
    """Of so many replicas: answers a second as a multiple of one's, and latencies at ``LOAD``."""

    number: int
    rate: float
    p50: float
    p99: float
    refused: int


def grow(cluster: Cluster, rounds: int, seconds: float) -> str:
    """Every number of replicas once in each round; a table of medians, as ratios to one replica."""
    found: dict[int, list[Grown]] = {number: [] for number in NUMBERS}
    for _ in range(rounds):
        one = 0.0
        for number in NUMBERS:
            with cluster.behind_nginx(number):
                rate = cluster.peak(seconds).good
                one = one or rate
                calm = asyncio.run(cluster.offer(LOAD * one * number, seconds))
            p50, p99 = (calm.quantile(200, share) for share in (0.5, 0.99))
            refused = calm.counts.total() - calm.counts[200]
            found[number].append(Grown(number, rate / one, p50, p99, refused))
            say(f"  {number}: {rate:.0f}/s, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    lines = [
        f"| replicas | answers/s | p50 at {LOAD:.0%} | p99 at {LOAD:.0%} | not answered |",
        "|---:|---:|---:|---:|---:|",
    ]
    for number, cells in found.items():
        rates = [cell.rate for cell in cells]
        p50, p99 = (
            statistics.median(
                getattr(cell, name) / getattr(first, name)
                for cell, first in zip(cells, found[1], strict=True)
            )
            for name in ("p50", "p99")
        )
        lines.append(
            f"| {number} | {statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"
            f" | {p50:.2f} | {p99:.2f} | {sum(cell.refused for cell in cells)} |"
        )
    return "\n".join(lines)


# ---- what is lost --------------------------------------------------------------------------------


def lose(cluster: Cluster, restart: Callable[[int], None]) -> str:
    """Two replicas at ``LOAD`` of what one of them can carry, and what becomes of the requests."""
    first, second = cluster.replicas[:2]

    def kill() -> None:
        first.kill()

    def replace() -> None:
        for number, replica in enumerate((first, second)):
            replica.stop()
            restart(number)
            time.sleep(NOTICED_SECONDS)

    def unplug() -> None:
        first.host.unplug()

    rows = []
    with cluster.behind_nginx(1):
        rate = LOAD * cluster.peak(2).good
    for name, event, seconds in (
        ("nothing", lambda: None, 8.0),
        ("one is killed", kill, 8.0),
        ("both are replaced", replace, 45.0),
        ("one is unplugged", unplug, 12.0),
    ):
        with cluster.behind_nginx(2):
            outcome = asyncio.run(_during(cluster, rate, seconds, event))
            rows.append((name, outcome, cluster.retries))
        say(f"  {name}: {outcome.summary()}, {cluster.retries} asked again")
        if name == "one is killed":
            restart(0)
            first = cluster.replicas[0]
    calm = rows[0][1].quantile(200, 0.99)
    lines = [
        "| what happens | requests | lost | asked again | p99 | longest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, outcome, retries in rows:
        total = outcome.counts.total()
        p99, longest = (outcome.quantile(200, share) / calm for share in (0.99, 1.0))
        lines.append(
            f"| {name} | {total} | {total - outcome.counts[200]} | {retries}"
            f" | {p99:.1f} | {longest:.1f} |"
        )
    return "\n".join(lines)


async def _during(
    cluster: Cluster, rate: float, seconds: float, event: Callable[[], None]
) -> Outcome:
    load = asyncio.create_task(cluster.offer(rate, seconds))
    await asyncio.sleep(2)
    await asyncio.to_thread(event)
    return await load


# ---- what saturates first ------------------------------------------------------------------------


def ramp(cluster: Cluster, cores: float, seconds: float) -> str:
    """More and more load on one replica; what its CPU and its metrics say of it."""
    replica = cluster.replicas[0]
    lines = [
        "| offered | CPU of its limit | in flight, mean | most | refused | p50 | p99 |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with cluster.behind_nginx(1):
        peak = cluster.peak(seconds).good
        calm = 0.0
        for share in RAMP:
            used, seen, outcome = asyncio.run(_watch(cluster, replica, share * peak, seconds))
            p50, p99 = (outcome.quantile(200, quantile) for quantile in (0.5, 0.99))
            calm = calm or p50
            refused = 1 - outcome.counts[200] / outcome.counts.total()
            lines.append(
                f"| {share:.0%} | {used / cores:.0%} | {statistics.mean(seen):.1f}"
                f" | {max(seen):.0f} | {refused:.0%} | {p50 / calm:.1f} | {p99 / calm:.1f} |"
            )
            say("  " + lines[-1])
            time.sleep(1)
    return "\n".join(lines)


async def _watch(
    cluster: Cluster, replica: Replica, rate: float, seconds: float
) -> tuple[float, list[float], Outcome]:
    """Cores used and predictions in flight meanwhile, once the load has settled."""
    load = asyncio.create_task(cluster.offer(rate, seconds))
    await asyncio.sleep(seconds / 4)
    begun, before = time.perf_counter(), sum(cpu_seconds(replica.processes).values())
    seen = []
    while time.perf_counter() < begun + seconds / 2:
        seen.append(await asyncio.to_thread(replica.metric, "labelserve_requests_in_flight"))
        await asyncio.sleep(0.3)
    used = sum(cpu_seconds(replica.processes).values()) - before
    used /= time.perf_counter() - begun
    return used, seen, await load


# ---- the command ---------------------------------------------------------------------------------


def _measure(chosen: argparse.Namespace, nginx: str, folder: Path) -> None:
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        machines = [hosts.add(number, chosen.cores) for number in range(max(NUMBERS))]
        model = model_file(chosen.model, folder)

        def start(number: int) -> Replica:
            replica = start_replica(machines[number], model, folder)
            stack.callback(replica.kill)
            return replica

        replicas = [start(number) for number in range(len(machines))]
        for replica in replicas:
            replica.wait_until_ready()

        def restart(number: int) -> None:
            replicas[number] = start(number)
            replicas[number].wait_until_ready()

        say(f"{processor()}\n{model.name}, {chosen.cores} of a core for each replica")
        small = Cluster(nginx, replicas, folder, SMALL)
        say("\n" + grow(small, chosen.rounds, chosen.seconds))
        for image in (SMALL, PHOTOGRAPH):
            cluster = Cluster(nginx, replicas, folder, image)
            say(f"\n{image}\n" + ramp(cluster, chosen.cores, 2 * chosen.seconds))
        small = Cluster(nginx, replicas, folder, SMALL)
        say("\n" + lose(small, restart))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.replicas", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", default="default", help="a file, or a name of `make bench`'s")
    parser.add_argument("--cores", type=float, default=0.2, help="for each: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4, help="of each load: %(default)s")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(given)
    nginx = find("nginx")
    if nginx is None or os.geteuid():
        sys.exit("this needs root, for networks and control groups, and nginx")
    if not chosen.inside:
        # A network without a way out, in which all of this happens.
        again = [sys.executable, "-m", "tests.benchmarks.replicas", *given, "--inside"]
        sys.exit(subprocess.run(["unshare", "--net", *again], check=False).returncode)
    with tempfile.TemporaryDirectory(prefix="labelserve-replicas-") as folder:
        try:
            _measure(chosen, nginx, Path(folder))
        except CannotMake as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
