"""What is lost when a replica goes: two of them at ``LOAD`` of what one of them can carry."""

import asyncio
import time
from collections.abc import Callable

from tests.benchmarks.measure import say
from tests.benchmarks.replicas.cluster import LOAD, Cluster
from tests.load.open_loop import Outcome

# nginx's fail_timeout, and a moment more.
NOTICED_SECONDS = 6.0


class Losses:
    """Events, one after the other.

    Args:
        cluster: of two replicas or more.
        restart: starts one of these anew, by its number, once it is gone, and waits for it.
    """

    def __init__(self, cluster: Cluster, restart: Callable[[int], None]) -> None:
        self._cluster = cluster
        self._restart = restart

    def measure(self) -> str:
        """A table: latencies are multiples of the p99 while nothing happens."""
        with self._cluster.behind_nginx(1):
            rate = LOAD * self._cluster.peak(2).good
        lines = [
            "| what happens | requests | lost | asked again | p99 | longest |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        calm = 0.0
        for name, event, seconds in (
            ("nothing", lambda: None, 8.0),
            ("one is killed (`kill -9`)", self._kill, 8.0),
            ("both are replaced, one after the other", self._replace, 40.0),
            ("one's cable is pulled", self._unplug, 12.0),
        ):
            before = self._cluster.retries
            with self._cluster.behind_nginx(2):
                outcome = asyncio.run(self._during(event, rate, seconds))
            say(f"  {name}: {outcome.summary()}")
            calm = calm or outcome.quantile(200, 0.99)
            p99, longest = (outcome.quantile(200, share) / calm for share in (0.99, 1))
            total, retries = outcome.counts.total(), self._cluster.retries - before
            lines.append(
                f"| {name} | {total} | {total - outcome.counts[200]} | {retries}"
                f" | {p99:.1f} | {longest:.1f} |"
            )
        return "\n".join(lines)

    def _kill(self) -> None:
        self._cluster.replicas[0].kill()

    def _replace(self) -> None:
        for number in (0, 1):
            self._cluster.replicas[number].stop()
            self._restart(number)
            time.sleep(NOTICED_SECONDS)

    def _unplug(self) -> None:
        self._cluster.replicas[0].host.unplug()

    async def _during(self, event: Callable[[], None], rate: float, seconds: float) -> Outcome:
        load = asyncio.create_task(self._cluster.offer(rate, seconds))
        await asyncio.sleep(2)
        await asyncio.to_thread(event)
        outcome = await load
        if self._cluster.replicas[0].process.poll() is not None:
            await asyncio.to_thread(self._restart, 0)
        return outcome
