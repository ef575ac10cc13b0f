"""Four times the load that it can carry: what fits is answered, the rest is told at once.

A machine that does something else as well is slower in some seconds than in others. So peak and
overload are measured in turn, a moment each, and every time is held against another of the same
moments; the median of some such pairs decides.
"""

import asyncio
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.load import closed_loop
from tests.load.open_loop import Outcome, http_request, offer
from tests.server import Server, start_server

PAIRS = 5
IN_FLIGHT = 4
LOAD_SECONDS = 1.2
PROBES = [http_request("GET", path) for path in ("/health/live", "/health/ready", "/metrics")]


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """Few bytes that take a worker some 100 ms: the generator has to share the machine with it.

    Offering four times as many, and refusing three of them, takes cores too: of two, with images
    of 25 ms, a tenth.
    """
    slope = np.add.outer(np.arange(3000), np.arange(3600)) // 16
    content = io.BytesIO()
    Image.fromarray(np.stack([slope, slope // 2, 255 - slope], -1).astype(np.uint8)).save(
        content, "PNG"
    )
    return content.getvalue()


@dataclass(frozen=True)
class Pair:
    """Good answers a second at the peak, and what came of four times that load just after."""

    peak: float
    kept: float  # of the peak
    overload: Outcome
    probes: Outcome

    def as_share_of_a_wait(self, outcome: Outcome, status: int, quantile: float) -> float:
        """A latency, as a share of what the accepted requests have to wait."""
        return outcome.quantile(status, quantile) / self.overload.quantile(200, 0.5)

    def __str__(self) -> str:
        return f"peak {self.peak:.1f}/s, {self.kept:.0%} kept: {self.overload.summary()}"


def test_four_times_the_load(tiny_model: Path, photograph: bytes) -> None:
    request = http_request("POST", "/predict", photograph)
    workers = os.cpu_count() or 1
    with start_server(tiny_model, workers=workers, max_in_flight=IN_FLIGHT * workers) as server:
        pairs = [asyncio.run(_pair(server, request, workers)) for _ in range(PAIRS)]
        seen = "\n".join(map(str, pairs))
        for pair in pairs:
            assert set(pair.overload.counts) == {200, 429}, seen
            assert set(pair.probes.counts) == {200}, seen
        assert median(pair.kept for pair in pairs) > 0.8, seen
        # A worker has this many in flight at most, so none waits for more than the others.
        ahead = median(pair.overload.quantile(200, 0.99) * pair.peak for pair in pairs)
        assert ahead < 3 * IN_FLIGHT * workers, seen
        assert median(p.as_share_of_a_wait(p.overload, 429, 0.95) for p in pairs) < 0.25, seen
        assert median(p.as_share_of_a_wait(p.probes, 200, 0.95) for p in pairs) < 0.25, seen
        assert not server.tracebacks


async def _pair(server: Server, request: bytes, workers: int) -> Pair:
    # Enough to keep every worker busy, and few enough for most to be let in.
    calm = await closed_loop(server.port, request, 3 * workers, LOAD_SECONDS)
    refused = server.metric("labelserve_rejected_total", reason="overloaded")
    begun = time.perf_counter()
    overload, probes = await asyncio.gather(
        offer(server.port, [request], 4 * calm.good, LOAD_SECONDS),
        offer(server.port, PROBES, 20, LOAD_SECONDS),
    )
    # What is in flight at the end is answered after it.
    kept = overload.counts[200] / (time.perf_counter() - begun) / calm.good
    refused = server.metric("labelserve_rejected_total", reason="overloaded") - refused
    assert refused == overload.counts[429]
    return Pair(calm.good, kept, overload, probes)
