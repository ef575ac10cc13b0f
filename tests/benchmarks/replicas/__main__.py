"""Replicas behind nginx: what each adds, what is lost when one goes, and what saturates first.

    python -m tests.benchmarks.replicas [--model FILE] [--cores C] [--rounds N] [--seconds S]

Each replica is a machine of its own: a network namespace, and a control group with the same part of
a core, so that four of them, nginx and the load fit into two cores. nginx has the committed
configuration, without its limit for one client. Needs root, nginx, and Linux with either version of
control groups. Prints tables; times are ratios within them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.images import PHOTOGRAPH, SMALL
from tests.benchmarks.measure import say
from tests.benchmarks.models import model_file
from tests.benchmarks.precisions import processor
from tests.benchmarks.replicas.cluster import Cluster
from tests.benchmarks.replicas.growth import NUMBERS, grow
from tests.benchmarks.replicas.hosts import CannotMake, Hosts
from tests.benchmarks.replicas.losses import Losses
from tests.benchmarks.replicas.replica import Replica, start_replica
from tests.benchmarks.replicas.saturation import ramp
from tests.monitoring.tools import find


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
        say("\n" + Losses(small, restart).measure())


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
