"""What saturates first: more and more load on one replica."""

import asyncio
import statistics
import time

from tests.benchmarks.measure import say
from tests.benchmarks.replicas.cluster import Cluster
from tests.benchmarks.replicas.replica import Replica
from tests.benchmarks.servers import cpu_seconds
from tests.load.open_loop import Outcome

SHARES = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.5, 3.0)


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
        for share in SHARES:
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
