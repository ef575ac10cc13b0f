"""A replica on a machine of its own: the service, asked by that machine's address."""

import http.client
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.replicas.hosts import Host
from tests.server import ANSWER_SECONDS, START_SECONDS, Server, eventually, launch_by

PORT = 8000
DRAIN_SECONDS = 2


@dataclass(kw_only=True)
class Replica(Server):
    """Ends with all its processes by ``kill``, and in order by ``stop``."""

    host: Host

    @property
    def address(self) -> str:
        return self.host.address

    @property
    def processes(self) -> list[int]:
        """The master and its workers."""
        return [self.process.pid, *self.workers]

    def connection(self, timeout: float = ANSWER_SECONDS) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=timeout)

    def wait_until_ready(self) -> None:
        assert eventually(self.ready, START_SECONDS), self.story


def start_replica(host: Host, model: Path, folder: Path) -> Replica:
    """One that is about to start."""
    folder = folder / host.address
    folder.mkdir(exist_ok=True)
    settings = {"host": "0.0.0.0", "drain_seconds": DRAIN_SECONDS}  # noqa: S104
    server = launch_by(host.command, model, folder, PORT, **settings)
    return Replica(server.process, server.port, server.output, server.errors, host=host)
