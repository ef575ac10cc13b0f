"""Replicas are replaced behind a proxy, under load: nothing is lost.

nginx does what any proxy in front of several replicas does: it goes to the next one where the first
takes no connection, closes one that it had kept, or says 503. Each replica that is stopped says
that it is not ready, goes on answering for a moment, answers all that it holds, and ends with 0.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.images import encode, photograph
from tests.load.open_loop import Outcome, http_request, offer
from tests.nginx import start_nginx
from tests.server import free_port

# Long enough for all replacements; more with REPLACE_REQUESTS.
REQUESTS = int(os.environ.get("REPLACE_REQUESTS", "4000"))
# What one replica carries alone, on a machine that does something else too.
RATE = 250.0
REPLACEMENTS = 4
DRAIN_SECONDS = 1.0
MAX_IN_FLIGHT = 1000  # being busy is another test

CONFIGURATION = """
    client_body_buffer_size 1m;
    upstream replicas {{
        server 127.0.0.1:{first} fail_timeout=1s max_fails=1;
        server 127.0.0.1:{second} fail_timeout=1s max_fails=1;
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error timeout http_503 non_idempotent;
        }}
    }}
"""


class Replica(Protocol):
    """Something that serves on a port until it is stopped."""

    port: int

    def stop(self) -> int:
        """Ask it to stop, and wait; its exit status."""
        ...


# Starts a replica that is ready, on a port of its own or on a given one.
Start = Callable[[int | None], Replica]


def replace_under_load(start: Start, nginx: str, folder: Path) -> tuple[Outcome, list[int]]:
    """Offer load through nginx while replicas are replaced in turn: answers, and exit statuses."""
    images = [encode(photograph(seed, 64, 64), "JPEG") for seed in range(4)]
    requests = [http_request("POST", "/predict", image) for image in images]
    replicas = [start(None), start(None)]
    port = free_port()
    first, second = (replica.port for replica in replicas)
    http = CONFIGURATION.format(first=first, second=second, port=port)
    with start_nginx(nginx, folder, port, http):
        return asyncio.run(_load_and_replace(port, requests, replicas, start))


async def _load_and_replace(
    port: int, requests: list[bytes], replicas: list[Replica], start: Start
) -> tuple[Outcome, list[int]]:
    load = asyncio.create_task(offer(port, requests, RATE, REQUESTS / RATE))
    statuses = []
    pause = REQUESTS / RATE / (REPLACEMENTS + 1) / 2
    for number in range(REPLACEMENTS):
        await asyncio.sleep(pause)
        old = replicas[number % 2]
        statuses.append(await asyncio.to_thread(old.stop))
        replicas[number % 2] = await asyncio.to_thread(start, old.port)
    return await load, statuses
