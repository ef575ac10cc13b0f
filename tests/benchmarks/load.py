"""Load in a closed loop: kept-alive connections, each of which asks again once it is answered."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tests.load.open_loop import Outcome, _Client

WRK = shutil.which("wrk")
_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Body:
    """What is sent: the file that holds it, its declared type, and the path that it goes to.

    ``fields``: further header fields, as lines.
    """

    file: Path
    content_type: str
    path: str = "/predict"
    fields: tuple[str, ...] = ()

    def request(self) -> bytes:
        """As it goes over the wire."""
        content = self.file.read_bytes()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(content)}\r\n"
        )
        fields = "".join(f"{field}\r\n" for field in self.fields)
        return f"{head}{fields}\r\n".encode() + content


@dataclass(frozen=True)
class Load:
    """What came back: answers, those of them that were not 2xx or 3xx, and what was lost."""

    seconds: float
    answers: int
    refused: int
    lost: int
    p50_ms: float
    p99_ms: float

    @property
    def good(self) -> float:
        """Good answers a second."""
        return (self.answers - self.refused) / self.seconds


def run_load(port: int, body: Body, connections: int, seconds: float) -> Load:
    """Load a server on this machine, with wrk where it is installed."""
    if WRK is not None:
        return _run_wrk(port, body, connections, seconds)
    return asyncio.run(closed_loop(port, body.request(), connections, seconds))


def _run_wrk(port: int, body: Body, connections: int, seconds: float) -> Load:
    # wrk counts in whole seconds.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += [part for field in body.fields for part in ("-H", field)]
    command += ["--timeout", "30s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}{body.path}"]
    environ = {**os.environ, "BODY_FILE": str(body.file), "CONTENT_TYPE": body.content_type}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    return Load(**json.loads(line.removeprefix("JSON ")))


async def closed_loop(port: int, request: bytes, connections: int, seconds: float) -> Load:
    """The same by this process: slower, and so it takes more of the cores that it shares."""
    loop = asyncio.get_running_loop()
    outcome = Outcome(seconds)
    begun = time.perf_counter()
    until = begun + seconds

    async def client() -> None:
        free: deque[_Client] = deque()
        while time.perf_counter() < until:
            asked = time.perf_counter()
            try:
                if not free or free[0].transport is None:
                    free.clear()
                    _, made = await loop.create_connection(lambda: _Client(free), "127.0.0.1", port)
                    free.append(made)
                status = await asyncio.wait_for(free.popleft().ask(request), 30)
            except (OSError, TimeoutError):
                status = 0
            outcome.latencies[status].append(time.perf_counter() - asked)
        for one in free:
            if one.transport is not None:
                one.transport.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    spent = time.perf_counter() - begun
    counts = outcome.counts
    lost = counts.pop(0, 0)
    refused = sum(number for status, number in counts.items() if status >= 400)
    good = 200 if 200 in outcome.latencies else next(iter(counts), 0)
    return Load(
        seconds=spent,
        answers=counts.total(),
        refused=refused,
        lost=lost,
        p50_ms=outcome.quantile(good, 0.5) * 1e3,
        p99_ms=outcome.quantile(good, 0.99) * 1e3,
    )
