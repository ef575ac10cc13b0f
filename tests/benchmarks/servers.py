"""The servers that are compared: started by a command, watched from outside, stopped."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.inference.classifier import Classifier
from tests.server import ROOT, free_port, pss_bytes, server_environ

OURS, FLASK, FASTAPI = "labelserve", "flask", "fastapi"
SERVERS = (OURS, FLASK, FASTAPI)
# What `make serve` and `make bench` set up; in a test, whatever runs it.
_SERVE, _BENCH = (ROOT / name / "bin/python" for name in (".venv-serve", ".venv-bench"))
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_TICK = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start; the message shows what it said."""


@dataclass(frozen=True)
class Reply:
    """An answer's status and body."""

    status: int
    body: bytes


def command(name: str, port: int, workers: int) -> list[str]:
    """How a server is started."""
    if name == OURS:
        return [str(_SERVE if _SERVE.exists() else sys.executable), "-m", "service"]
    python = str(_BENCH if _BENCH.exists() else sys.executable)
    app = f"tests.benchmarks.peers.{name}_app:app"
    if name == FLASK:
        sizes = ["--workers", str(workers), "--threads", "4", "--worker-class", "gthread"]
        return [python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *sizes, app]
    quiet = ["--no-access-log", "--log-level", "warning"]
    return [python, "-m", "uvicorn", "--port", str(port), "--workers", str(workers), *quiet, app]


def cpu_seconds(processes: Iterable[int]) -> dict[int, float]:
    """CPU time so far of those of the processes that are still there."""
    used = {}
    for pid in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / _TICK
    return used


class Server:
    """All processes of one server, from its command on.

    ``ready_seconds``: from the command to its first good answer.
    """

    def __init__(self, name: str, model: Path, workers: int, folder: Path) -> None:
        self.name = name
        self.port = free_port()
        self.ready_seconds = 0.0
        self._log = folder / f"{name}-{self.port}.log"
        settings: Mapping[str, object] = {"workers": workers} if name == OURS else {}
        environ = server_environ(model if name == OURS else None, self.port, settings)
        labels = Classifier.load(model).card.labels
        environ |= {"MODEL": str(model), "LABELS": ",".join(labels)}
        self._begun = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(name, self.port, workers),
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, body: bytes) -> None:
        """Until it answers an image.

        Raises:
            ServerFailed: it ended, or does not in time.
        """
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.post(body).status == 200:
                    break
            ended = self._process.poll() is not None
            if ended or time.perf_counter() - self._begun > START_SECONDS:
                self.stop()
                raise ServerFailed(f"{self.name} does not answer:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.01)
        self.ready_seconds = time.perf_counter() - self._begun

    def post(self, body: bytes, content_type: str = "image/jpeg", path: str = "/predict") -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            return Reply(response.status, response.read())
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """All of its processes: those of its session."""
        session, found = self._process.pid, []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == session:
                        found.append(int(folder.name))
        return sorted(found)

    def memory_bytes(self) -> int:
        """Proportional shares (PSS) of all processes."""
        total = 0
        for pid in self.processes():
            with suppress(OSError):
                total += pss_bytes(pid)
        return total

    def cpu_seconds(self) -> dict[int, float]:
        """CPU time so far, by process."""
        return cpu_seconds(self.processes())

    def stop(self) -> None:
        """Ask it to stop, and end what is left of it."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
