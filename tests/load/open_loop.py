"""An open-loop load generator: arrivals at a fixed rate, whatever the answers do.

A closed loop waits for an answer before it asks again, and so slows down with the server it
measures. Here request n leaves at n / rate seconds, on a kept-alive connection that is free or on a
new one, and its latency counts from that moment.

    python -m tests.load.open_loop --port 8000 --rate 400 --seconds 10 photo.jpg
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """What became of the requests: latencies in seconds by status; 0 stands for no answer."""

    seconds: float
    latencies: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> Counter[int]:
        """Answers by status."""
        return Counter({status: len(times) for status, times in self.latencies.items()})

    def rate(self, status: int) -> float:
        """Answers of this status a second."""
        return len(self.latencies[status]) / self.seconds

    def quantile(self, status: int, share: float) -> float:
        """The latency that this share of the answers of a status stays under; 0 without any."""
        times = sorted(self.latencies[status])
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0

    def summary(self) -> dict[str, object]:
        """For people and for JSON: rates, and latencies in milliseconds."""
        return {
            str(status): {
                "answers": len(times),
                "per_second": round(len(times) / self.seconds, 1),
                "p50_ms": round(statistics.median(times) * 1e3, 1),
                "p99_ms": round(self.quantile(status, 0.99) * 1e3, 1),
                "max_ms": round(max(times) * 1e3, 1),
            }
            for status, times in sorted(self.latencies.items())
        }


class _Client(asyncio.Protocol):
    """One connection: a request out, its answer in, and again."""

    def __init__(self, free: "deque[_Client]") -> None:
        self._free = free
        self._buffer = b""
        self._needed: int | None = None
        self.answered: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[int]":
        """Send; the future gives the status."""
        assert self.transport is not None
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._needed is None:
            head, end, _ = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._needed = len(head) + 4 + int(length)
        if len(self._buffer) < self._needed or self.answered is None:
            return
        status, closing = int(self._buffer[9:12]), b"Connection: close" in self._buffer
        self._buffer, self._needed, answered = b"", None, self.answered
        if not closing:
            self._free.append(self)
        elif self.transport is not None:
            self.transport.close()
        if not answered.done():
            answered.set_result(status)

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(0)


def http_request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def offer(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, patience: float = 20.0
) -> Outcome:
    """Send ``rate`` requests a second for ``seconds``, taken in turn, then wait for what is out.

    Args:
        port: on 127.0.0.1.
        requests: whole requests.
        rate: arrivals a second.
        seconds: how long they arrive.
        patience: how long the last ones are waited for; what has not answered then counts as 0.
    """
    loop = asyncio.get_running_loop()
    outcome = Outcome(seconds)
    free: deque[_Client] = deque()

    async def one(request: bytes, due: float) -> None:
        status = 0
        try:
            client = free.popleft() if free else None
            while client is not None and client.transport is None:
                client = free.popleft() if free else None
            if client is None:
                _, client = await loop.create_connection(lambda: _Client(free), "127.0.0.1", port)
            status = await asyncio.wait_for(client.ask(request), patience)
        except (OSError, TimeoutError):
            pass
        outcome.latencies[status].append(time.perf_counter() - due)

    tasks = []
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        tasks.append(asyncio.create_task(one(requests[number % len(requests)], due)))
    await asyncio.gather(*tasks)
    for client in free:
        if client.transport is not None:
            client.transport.close()
    return outcome


def main() -> None:
    """Offer load to a running service and print what came back."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.open_loop", description=__doc__)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=100.0, help="arrivals a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    requests = [http_request("POST", "/predict", image.read_bytes()) for image in chosen.images]
    outcome = asyncio.run(offer(chosen.port, requests, chosen.rate, chosen.seconds))
    json.dump(outcome.summary(), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
