"""The Docker Engine of this machine, as far as the tests need it."""

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.server import free_port

# Everything an operator can take away from a container. Nothing is given back: no --tmpfs.
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")

# Slow machines are slow; these only bound how long a broken service is waited for.
START_SECONDS = 60
COMMAND_SECONDS = 120
BUILD_SECONDS = 280


class Engine:
    """``docker`` commands. Builds and containers use the host's network: some have no other."""

    def __init__(self, program: str) -> None:
        self.program = program

    @classmethod
    def find(cls) -> "Engine | None":
        """The first client that an engine answers, the system's own before the path's."""
        for program in ("/usr/bin/docker", shutil.which("docker")):
            if program and Path(program).exists():
                engine = cls(program)
                if engine.call("info", check=False).returncode == 0:
                    return engine
        return None

    def call(
        self,
        *arguments: str | Path,
        check: bool = True,
        text_in: str | None = None,
        timeout: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; both of its outputs are in ``stdout``."""
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            input=text_in if text_in is not None else "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {arguments[0]} gave {done.returncode}:\n{done.stdout}")
        return done

    def build(
        self,
        context: Path,
        iidfile: Path,
        *arguments: str,
        dockerfile: str | None = None,
        seconds: float = BUILD_SECONDS,
    ) -> str:
        """Build an image; its id. ``dockerfile`` is a text in place of the context's."""
        where = () if dockerfile is None else ("--file", "-")
        self.call(
            "build",
            *("--network", "host", "--iidfile", iidfile, *where, *arguments, context),
            text_in=dockerfile,
            timeout=seconds,
        )
        return iidfile.read_text().strip()

    def inspect(self, what: str) -> dict[str, Any]:
        """What the engine knows of an image or a container."""
        (found,) = json.loads(self.call("inspect", what).stdout)
        assert isinstance(found, dict)
        return found

    def run(
        self,
        image: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> "Container":
        """Start a hardened container in the background, on a free port."""
        variables = {"PORT": str(free_port()), **(environment or {})}
        port = int(variables["PORT"])
        settings = [word for pair in variables.items() for word in ("--env", "=".join(pair))]
        started = self.call(
            *(
                "run",
                "--detach",
                "--network",
                "host",
                *HARDENED,
                *settings,
                *options,
                image,
                *command,
            )
        )
        return Container(self, started.stdout.strip().splitlines()[-1], port)


@dataclass
class Container:
    """One container of the service, running or not."""

    engine: Engine
    id: str
    port: int
    started: float = field(default_factory=time.monotonic)

    @property
    def state(self) -> dict[str, Any]:
        """Status, ExitCode, OOMKilled, Health and so on."""
        state = self.engine.inspect(self.id)["State"]
        assert isinstance(state, dict)
        return state

    @property
    def log(self) -> str:
        """Everything that the service has written."""
        return self.engine.call("logs", self.id).stdout

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The log, parsed: every line has to be JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def processes(self) -> list[tuple[int, str]]:
        """User id and command of every process inside."""
        rows = self.engine.call("top", self.id, "-eo", "pid,uid,args").stdout.splitlines()[1:]
        return [(int(row.split(None, 2)[1]), row.split(None, 2)[2]) for row in rows]

    def execute(self, script: str) -> str:
        """What a Python script prints that is run inside, as the service's user."""
        return self.engine.call("exec", self.id, "python", "-c", script).stdout

    def wait_healthy(self) -> float:
        """Wait for the image's own HEALTHCHECK; the seconds since the start."""
        return self._wait(lambda: self.state["Health"]["Status"] == "healthy", "healthy")

    def wait_ready(self, seconds: float = START_SECONDS) -> float:
        """Wait for readiness over HTTP, which is seen sooner."""
        return self._wait(lambda: self.ask("GET", "/health/ready")[0] == 200, "ready", seconds)

    def stop(self) -> int:
        """Ask it to stop, as an orchestrator does; the exit status."""
        self.engine.call("stop", "--time", "30", self.id)
        return int(self.state["ExitCode"])

    def wait_exit(self) -> int:
        """Wait until it has stopped by itself; the exit status."""
        return int(self.engine.call("wait", self.id).stdout)

    @property
    def ran_seconds(self) -> float:
        """From its process's start to its end, as the engine saw it."""
        state = self.state
        begun, ended = (datetime.fromisoformat(state[at]) for at in ("StartedAt", "FinishedAt"))
        return (ended - begun).total_seconds()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def remove(self) -> None:
        """Kill and forget it."""
        self.engine.call("rm", "--force", "--volumes", self.id, check=False)

    def _wait(self, reached: Any, what: str, seconds: float = START_SECONDS) -> float:
        while time.monotonic() < self.started + seconds:
            try:
                if reached():
                    return time.monotonic() - self.started
            except OSError:
                pass  # nothing listens yet
            if not self.state["Running"]:
                break
            time.sleep(0.1)
        raise AssertionError(f"not {what}: {self.state}\n{self.log}")
