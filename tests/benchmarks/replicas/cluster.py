"""Replicas behind the committed configuration of nginx, and load on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.images import image_bytes
from tests.benchmarks.load import Body, Load, run_load
from tests.benchmarks.replicas.replica import Replica
from tests.load.open_loop import Outcome, http_request, offer
from tests.nginx import example, start_nginx

CONNECTIONS = 32
# Of what the replicas can answer.
LOAD = 0.5
_PORT = 80


class Cluster:
    """Replicas on machines of their own, the first of which stand behind nginx."""

    def __init__(self, nginx: str, replicas: list[Replica], folder: Path, image: str) -> None:
        self._nginx = nginx
        self.replicas = replicas
        self._folder = folder
        self._file = folder / "image"
        self._file.write_bytes(image_bytes(image))

    @contextmanager
    def behind_nginx(self, number: int) -> Iterator[None]:
        """The first ``number`` of them."""
        addresses = [f"{one.address}:{one.port}" for one in self.replicas[:number]]
        http = example(_PORT, addresses, rate="100000r/s")
        with start_nginx(self._nginx, self._folder, _PORT, http):
            yield

    def peak(self, seconds: float) -> Load:
        """What comes back from those behind nginx, when clients ask again at once."""
        return run_load(_PORT, Body(self._file, "image/jpeg"), CONNECTIONS, seconds)

    async def offer(self, rate: float, seconds: float) -> Outcome:
        """The same image at a fixed rate."""
        request = http_request("POST", "/predict", self._file.read_bytes())
        return await offer(_PORT, [request], rate, seconds, patience=60)

    @property
    def retries(self) -> int:
        """Requests that a replica did not answer, so that nginx had to do something about it."""
        lines = (self._folder / "error.log").read_text().splitlines()
        return sum(" upstream" in line and "[error]" in line for line in lines)
