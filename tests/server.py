"""A real server for tests: ``python -m service`` in its own processes, spoken to over sockets."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.described import Headers, description_of

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ("asyncio", "gthread")

# Generous: the machine may be busy with something else.
START_SECONDS = 60.0
ANSWER_SECONDS = 30.0

# What the description follows, by the names of settings and of variables.
_ROUTES = {
    "root_path": "root_path",
    "AIP_PREDICT_ROUTE": "platform_predict_route",
    "AIP_HEALTH_ROUTE": "platform_health_route",
}

Labels = frozenset[tuple[str, str]]


class ServerError(AssertionError):
    """The server did not do what it had to; the message shows its log."""


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection, byte by byte: what http.client would smooth over is visible here."""

    def __init__(self, port: int, timeout: float = ANSWER_SECONDS) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> "Wire":
        self.sock.sendall(data)
        return self

    def reply(self, method: str = "GET") -> Reply:
        """The next answer; what comes behind it is kept for the next call."""
        while b"\r\n\r\n" not in self._buffer:
            self._read_more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = http.client.HTTPMessage()
        for line in lines:
            name, _, value = line.partition(":")
            headers[name] = value.strip()
        version, status, _ = first.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), first
        length = 0 if status[0] == "1" or status == "304" else int(headers["Content-Length"])
        wanted = 0 if method == "HEAD" else length
        while len(self._buffer) < wanted:
            self._read_more()
        body, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
        if status != "100":
            seen = None if method == "HEAD" else body
            description_of().check_some_answer(int(status), headers, seen)
        return Reply(int(status), headers, body)

    def ended(self) -> bool:
        """Whether the server closes the connection without another byte (or resets it)."""
        try:
            return not self._buffer and not self.sock.recv(1)
        except ConnectionResetError:
            return True

    def _read_more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ServerError(f"the server closed the connection after {self._buffer!r}")
        self._buffer += data


@dataclass
class Server:
    """A running service: how to speak to it, and what can be seen of it from outside."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path
    errors: Path
    routes: Mapping[str, str] = field(default_factory=dict)

    # ---- speaking ----------------------------------------------------------------------------

    def wire(self, timeout: float = ANSWER_SECONDS) -> Wire:
        return Wire(self.port, timeout)

    def connection(self, timeout: float = ANSWER_SECONDS) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = self.connection(timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        finally:
            connection.close()
        self.check(method, path, reply)
        return reply

    def check(self, method: str, path: str, reply: Reply) -> None:
        """Hold an answer against the service's own description."""
        description = description_of(**self.routes)
        description.check_answer(method, path, reply.status, reply.headers, reply.body)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("POST", path, body, headers)

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/health/ready", timeout=5).status == 200
        except OSError:
            return False

    def metrics(self) -> dict[tuple[str, Labels], float]:
        """Every sample of /metrics."""
        text = self.get("/metrics").body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, /, **labels: str) -> float:
        """One sample, 0 where there is none yet."""
        return self.metrics().get((name, frozenset(labels.items())), 0.0)

    # ---- looking -----------------------------------------------------------------------------

    @property
    def log(self) -> list[str]:
        """The lines on standard output, once no more come: a thread of each process writes them."""
        sizes = [self.output.stat().st_size]
        while len(sizes) < 6 or len(set(sizes[-6:])) > 1:
            time.sleep(0.02)
            sizes.append(self.output.stat().st_size)
        return self._lines

    @property
    def _lines(self) -> list[str]:
        return self.output.read_text(encoding="utf-8").splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The same, read as JSON."""
        return [json.loads(line) for line in self.log]

    def requests(self, **fields: object) -> list[dict[str, Any]]:
        """The log's lines of answered requests with these fields, to the last one."""

        def found() -> list[dict[str, Any]]:
            records = map(json.loads, self._lines)
            return [record for record in records if record["logger"] == "labelserve.requests"]

        with suppress(OSError, ValueError):  # it may have ended, or want a key
            counted = self.metrics()  # which waits for what is counted and logged together
            expected = sum(
                times
                for (name, labels), times in counted.items()
                if name == "labelserve_requests_total" and _has_a_line(dict(labels))
            )
            # Where a worker was killed, some lines never come.
            eventually(lambda: len(found()) >= expected, seconds=2)
        return [record for record in found() if fields.items() <= record.items()]

    @property
    def tracebacks(self) -> list[str]:
        """What of the log and of standard error speaks of an exception."""
        text = self.errors.read_text(encoding="utf-8")
        return [line for line in [*self.log, *text.splitlines()] if "Traceback" in line]

    @property
    def story(self) -> str:
        """The last of all output, for people."""
        output, errors = self.output.read_text("utf-8"), self.errors.read_text("utf-8")
        return f"---- stdout\n{output[-4000:]}\n---- stderr\n{errors[-4000:]}"

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]

    def threads(self) -> int:
        """Threads of all workers."""
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.workers)

    def descriptors(self) -> int:
        """Open descriptors of all workers."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.workers)

    def descriptors_at_rest(self) -> int:
        """The same, once connections that have just ended are gone."""
        seen = [self.descriptors()]
        while len(seen) < 4 or len(set(seen[-4:])) > 1:
            time.sleep(0.05)
            seen.append(self.descriptors())
        return seen[-1]

    def resident(self) -> int:
        """Bytes of memory of all workers."""
        page = os.sysconf("SC_PAGE_SIZE")
        statm = [Path(f"/proc/{pid}/statm").read_text(encoding="ascii") for pid in self.workers]
        return sum(int(text.split()[1]) * page for text in statm)

    def forget_peak(self) -> None:
        """Let ``peak`` begin anew."""
        for pid in self.workers:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """The most bytes of memory that each worker has had, added up."""
        statuses = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in self.workers]
        found = [re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE) for text in statuses]
        return sum(int(peak[1]) * 1024 for peak in found if peak)

    @property
    def shared_folder(self) -> Path:
        """Where the workers keep their counts, as one of them knows it.

        Raises:
            OSError, IndexError: there is no worker.
            StopIteration: it has not opened them yet.
        """
        maps = Path(f"/proc/{self.workers[0]}/maps").read_text(encoding="utf-8")
        line = next(line for line in maps.splitlines() if line.endswith(".db"))
        return Path(line.split(maxsplit=5)[5]).parent

    # ---- ending ------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask the master to stop, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = ANSWER_SECONDS) -> int:
        """The exit status, once it is there."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ServerError(f"still running after {timeout} s\n{self.story}") from None

    def stop(self) -> int:
        """Terminate; the exit status."""
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """End all processes of the server at once, and clear up what only a stop clears up."""
        left: Path | None = None
        with suppress(OSError, IndexError, StopIteration):
            left = self.shared_folder
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if left is not None:
            shutil.rmtree(left, ignore_errors=True)


def _has_a_line(labels: Mapping[str, str]) -> bool:
    """Whether requests of this route and status are logged."""
    quiet = labels["route"].startswith("/health") or labels["route"] == "/metrics"
    return not quiet or int(labels["status"]) >= 400


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether a server listens on this port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def pss_bytes(pid: int) -> int:
    """A process's proportional share of memory (PSS).

    Raises:
        OSError: it is gone.
    """
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    (line,) = (line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def server_environ(model: Path | None, port: int, settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment, with nothing of the service's in it but what is given.

    Settings are in lower case, without the prefix; names in upper case are other variables.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LABELSERVE_", "PROMETHEUS_", "GUNICORN_", "OTEL_"))
    }
    chosen = {
        name if name.isupper() else f"LABELSERVE_{name.upper()}": str(value)
        for name, value in settings.items()
    }
    if model is not None:
        chosen["LABELSERVE_MODEL"] = str(model)
    return {**inherited, "PORT": str(port), **chosen}


def launch(
    model: Path | None,
    folder: Path,
    port: int | None = None,
    *,
    arguments: object = "",
    **settings: object,
) -> Server:
    """A server's processes, not waited for; ``settings`` in lower case, without the prefix.

    ``arguments`` are words of the command line; ``{port}`` in them stands for the port.
    """
    return launch_by((), model, folder, port, arguments=arguments, **settings)


def launch_by(
    command: Sequence[str],
    model: Path | None,
    folder: Path,
    port: int | None = None,
    *,
    arguments: object = "",
    **settings: object,
) -> Server:
    """The same, by a command that runs the command behind it."""
    port = port or free_port()
    words = str(arguments).format(port=port).split()
    output, errors = folder / f"stdout-{port}", folder / f"stderr-{port}"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "service", *words],
            cwd=ROOT,
            env=server_environ(model, port, settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    routes = {field: str(settings[name]) for name, field in _ROUTES.items() if settings.get(name)}
    return Server(process, port, output, errors, routes)


@contextmanager
def start_server(
    model: Path | None, *, arguments: object = "", **settings: object
) -> Iterator[Server]:
    """A server that is ready, ended with all of its processes.

    Raises:
        ServerError: it is not ready in time, or ended; the log is in the message.
    """
    settings.setdefault("workers", 1)
    with tempfile.TemporaryDirectory(prefix="labelserve-test-") as folder:
        for attempt in range(3):
            server = launch(model, Path(folder), None, arguments=arguments, **settings)
            try:
                _wait_until_ready(server)
            except ServerError as error:
                server.kill()
                # Another process was quicker to take the port.
                if attempt == 2 or "in use" not in str(error):
                    raise
            else:
                break
        try:
            yield server
        except BaseException as error:
            error.add_note(server.story)
            raise
        finally:
            server.kill()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.ready():
        if server.process.poll() is not None:
            raise ServerError(f"ended with {server.process.returncode}\n{server.story}")
        if time.monotonic() > deadline:
            raise ServerError(f"not ready after {START_SECONDS} s\n{server.story}")
        time.sleep(0.05)


def eventually(claim: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether a claim comes true within a time, asked again and again."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# ---- requests and answers ------------------------------------------------------------------------


def multipart(
    *files: tuple[str, str, bytes], fields: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, str]]:
    """A form of (field, filename, content) and text fields: its body and its headers."""
    boundary = "labelserve-test-boundary"
    body = b""
    for name, text in (fields or {}).items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        body += head.encode() + text.encode() + b"\r\n"
    for name, filename, content in files:
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body += head.encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def raw_request(
    path: str, body: bytes = b"", method: str = "POST", headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def assert_problem(reply: Reply, status: int, slug: str | None) -> dict[str, Any]:
    """The one shape of every error; ``slug`` None where no domain error stands behind it.

    Returns:
        The problem's members.
    """
    assert reply.status == status, (reply.status, reply.body)
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["X-Request-ID"]
    assert problem["request_id"]
    assert problem["detail"]
    if slug is None:
        assert problem["type"] == "about:blank"
        assert problem["title"] == HTTPStatus(status).phrase
    else:
        assert problem["type"] == f"urn:labelserve:problem:{slug}"
        assert problem["title"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in reply.headers) == (status in (429, 503))
    assert "Retry-After" not in reply.headers or int(reply.headers["Retry-After"]) >= 1
    return problem
