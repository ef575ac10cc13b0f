"""Requests of every kind, counted by who sent them."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.images import encode, photograph
from tests.server import Server, multipart, raw_request

# (route, status), as labelserve_requests_total names them.
Tally = Counter[tuple[str, str]]

_CROWD = 8


class Traffic:
    """Good, bad and too many requests to one server, over loopback, and what came back."""

    def __init__(self, server: Server) -> None:
        self.tally: Tally = Counter()
        self.predictions = 0
        self._server = server
        self._lock = threading.Lock()
        self._small = [encode(photograph(seed, 64, 48), "JPEG") for seed in range(4)]
        # Slow enough to decode that a crowd of them finds the service full.
        self._large = encode(photograph(9, 2000, 1500), "PNG")

    def offer(self, seconds: float) -> None:
        """Everything, one after the other, beside a crowd; all is answered when this returns."""
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(_CROWD + 1) as pool:
            running = [pool.submit(self._repeat, self._crowd_step, until) for _ in range(_CROWD)]
            running.append(pool.submit(self._repeat, self._mixed_step, until))
            for each in running:
                each.result()

    @staticmethod
    def _repeat(step: Callable[[], None], until: float) -> None:
        while time.monotonic() < until:
            step()

    def _crowd_step(self) -> None:
        self._post("/predict", self._large)
        time.sleep(0.05)

    def _mixed_step(self) -> None:
        for image in self._small:
            self._post("/predict", image)
        self._post("/predict", b"")
        self._post("/predict", self._small[0][:200])
        self._post("/predict", b"no image")
        self._post("/predict", b"{}", {"Content-Type": "application/json"})
        self._post("/predict?top_k=0", self._small[0])
        form = [("image", f"{number}.jpg", data) for number, data in enumerate(self._small)]
        body, headers = multipart(*form, ("image", "text.txt", b"no image"))
        self._post("/predict/batch", body, headers, predictions=len(self._small))
        self._get("/nowhere", "unmatched")
        self._get("/model", "/model")
        self._leave()

    def _post(
        self, path: str, body: bytes, headers: dict[str, str] | None = None, predictions: int = 1
    ) -> None:
        status = self._server.post(path, body, headers).status
        self._count(path.partition("?")[0], status, predictions if status == 200 else 0)

    def _get(self, path: str, route: str) -> None:
        self._count(route, self._server.get(path).status, 0)

    def _count(self, route: str, status: int, predictions: int) -> None:
        with self._lock:
            self.tally[route, str(status)] += 1
            self.predictions += predictions

    def _leave(self) -> None:
        """Ask, and be gone before the answer. Nobody can say what this one is counted as."""
        with self._server.wire() as wire:
            wire.send(raw_request("/predict", self._large))
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
