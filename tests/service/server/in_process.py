"""The worker's connections on an event loop in a thread of this process.

So a real classifier can be broken, and the objects can be counted.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.http.app import create_app
from service.http.current import endpoints_of, service_of
from service.inference.classifier import Classifier
from service.runtime.shared_state import SharedState, WorkerSlot
from service.server.connections import Connections
from service.server.worker import new_event_loop
from service.settings import Settings


@contextmanager
def serving(
    classifier: Classifier | None, model: Path, slot: WorkerSlot | None = None, **settings: Any
) -> Iterator[int]:
    """An event loop with this classifier, or the model's, in a thread of this process; its port."""
    slot = slot or WorkerSlot(SharedState(1), 0)
    app = create_app(Settings(model=model, workers=1, **settings), classifier, slot)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop, stop = new_event_loop(), asyncio.Event()

        async def serve() -> None:
            service, endpoints = service_of(app), endpoints_of(app)
            connections = Connections(app, service, endpoints, [listener], 100)
            connections.start()
            await stop.wait()
            await connections.stop(5)

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30)
            assert not thread.is_alive()
            loop.close()
