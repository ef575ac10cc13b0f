"""A soak: good, bad and huge images for a long time, and nothing left over.

Starts a service of its own, keeps a few clients busy, and looks at memory, descriptors, threads and
answers. ``make soak`` runs ten minutes.

    python -m tests.load.soak --seconds 600
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from service.runtime.machine import Machine
from service.runtime.sizing import Sizing
from service.settings import Settings
from tests.hostile_images import hostile_images
from tests.images import encode, photograph
from tests.load.open_loop import http_request, offer
from tests.server import Server, pss_bytes, start_server

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "default.onnx"
RATE = 60.0
SLICE_SECONDS = 8.0
REST_SECONDS = 2.5
# A slow machine takes longer over a slice; there has to be something to compare all the same.
FEWEST_SAMPLES = 6
WORKERS = 2
# Of a worker: the event loop, Flask, scrapes, the watcher, the log, and the one that trims memory.
OTHER_THREADS = 6


@dataclass(frozen=True)
class Sample:
    """Proportional memory of all processes in kB, descriptors and threads of the workers."""

    seconds: float
    pss_kb: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Soak:
    """What was seen: ``drift`` is the late memory over the early, minus 1."""

    answers: dict[int, int]
    samples: list[Sample]
    before: Sample
    left: Sample
    drift: float


def most_threads() -> int:
    """Of all workers together. Each is made when it is first needed, which may be late."""
    decoders = Sizing.of(Settings(workers=WORKERS), Machine.measure()).decoders
    return WORKERS * (OTHER_THREADS + 2 * decoders + 1)  # they open files, and decode images


def requests() -> list[bytes]:
    """Mostly small photographs, some large ones, and every hostile file."""
    small = [encode(photograph(seed, 96, 72), "JPEG") for seed in range(40)]
    large = [encode(photograph(seed, 2000, 1500), "JPEG") for seed in range(3)]
    hostile = [case.build() for case in hostile_images()]
    bodies = [body for body in (*small * 5, *large, *hostile) if len(body) < 5_000_000]
    return [http_request("POST", "/predict", body) for body in bodies]


async def soak(server: Server, seconds: float, rest_seconds: float = REST_SECONDS) -> Soak:
    """Offer load for ``seconds``, in slices, and look at what is there after a rest behind each.

    While a huge image is decoded, hundreds of megabytes come and go; what must not grow is what
    stays when everything is answered.
    """
    bodies = requests()
    answers: Counter[int] = Counter()
    samples: list[Sample] = []
    start = time.monotonic()
    in_a_slice = min(SLICE_SECONDS, seconds / FEWEST_SAMPLES)
    while (now := time.monotonic() - start) < seconds or len(samples) < FEWEST_SAMPLES:
        random.shuffle(bodies)
        outcome = await offer(server.port, bodies, RATE, in_a_slice, patience=60)
        answers += outcome.counts
        # Clients have closed their connections; the server needs a moment to see it.
        await asyncio.sleep(rest_seconds)
        samples.append(_sample(server, now))
    # Of ten minutes: the third to the fifth, and the eighth to the tenth.
    pss_kb = [sample.pss_kb for sample in samples]
    warm, half, late = (int(len(samples) * share) for share in (0.2, 0.5, 0.7))
    drift = statistics.median(pss_kb[late:]) / statistics.median(pss_kb[warm:half]) - 1
    # Buffers and arenas are made when they are first needed: the most of the first half.
    first = samples[: max(half, warm + 1)]
    before = Sample(
        first[-1].seconds,
        max(sample.pss_kb for sample in first),
        max(sample.descriptors for sample in first),
        max(sample.threads for sample in first),
    )
    return Soak(dict(answers), samples, before, samples[-1], drift)


def _sample(server: Server, seconds: float) -> Sample:
    pids = [server.process.pid, *server.workers]
    pss_kb = sum(map(pss_bytes, pids)) // 1024
    return Sample(seconds, pss_kb, server.descriptors(), server.threads())


def main() -> int:
    """Soak, print what was seen as JSON, and say by the exit status whether it is good."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    chosen = parser.parse_args()
    with start_server(MODEL, workers=WORKERS) as server:
        seen = asyncio.run(soak(server, chosen.seconds))
    json.dump(asdict(seen), sys.stdout)
    before, left = seen.before, seen.left
    faults = []
    if seen.drift > 0.02:
        faults.append(f"memory grew by {seen.drift:.1%}")
    if left.descriptors > before.descriptors or left.threads > most_threads():
        faults.append(f"left over: {left} after {before}")
    if Counter(seen.answers)[500] or Counter(seen.answers)[0]:
        faults.append(f"answers: {seen.answers}")
    sys.stdout.write(f"\ndrift {seen.drift:+.2%}; answers {seen.answers}\n")
    sys.stdout.write("; ".join(faults) + "\n" if faults else "nothing left over\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
