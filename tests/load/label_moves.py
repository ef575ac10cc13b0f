"""A label is moved while a service answers: nothing is lost, and what answers was valid then.

Starts a service with two versions of a model, asks it over kept-alive connections, and moves the
label ``stable`` to and fro with the commands that an operator has. One move leads to a third
version, which cannot be opened.

    python -m tests.load.label_moves --requests 10000 --moves 20
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from PIL import Image

from tests.images import encode
from tests.load.open_loop import http_request
from tests.server import ROOT, WORKERS, Server, start_server
from tests.tiny_model import make_card, write_model

CONNECTIONS = 16
SERVER_WORKERS = 2
BROKEN = 3
# A connection asks again so long after an answer: some hundred requests a second in all.
PAUSE_SECONDS = 0.02
# Of a machine that does something else too: how long one step may take.
PATIENCE_SECONDS = 60.0
# How often a worker looks at the clock, and some more for what it does then.
SLACK_SECONDS = 0.75


class Answer(NamedTuple):
    """When it was asked for and there (monotonic clock), its status, and which version gave it.

    Both numbers are 0 where no answer came.
    """

    asked: float
    there: float
    status: int
    version: int


class Move(NamedTuple):
    """When the command began and had ended, where the label led then, and what answers since.

    ``answers`` is not ``to`` where ``to`` cannot be opened.
    """

    begun: float
    ended: float
    to: int
    answers: int


class Span(NamedTuple):
    """A version's time: since when it may answer, and until when it is the one that answers."""

    version: int
    since: float
    until: float


@dataclass
class Seen:
    """What became of it all: each connection's answers, the moves, and the statuses of probes."""

    connections: list[list[Answer]]
    moves: list[Move] = field(default_factory=list)
    probes: Counter[int] = field(default_factory=Counter)

    @property
    def answers(self) -> list[Answer]:
        """Those of all connections."""
        return [answer for answers in self.connections for answer in answers]

    @property
    def statuses(self) -> dict[int, int]:
        """Answers by status; 0 stands for those that were lost."""
        return dict(Counter(answer.status for answer in self.answers))

    @property
    def orders(self) -> list[list[int]]:
        """Of each connection, the versions that answered, one after the other."""
        return [
            [version for version, _ in groupby(answer.version for answer in answers)]
            for answers in self.connections
        ]

    @property
    def spans(self) -> list[Span]:
        """The times of the versions by the moves, one after the other."""
        found = [Span(1, -math.inf, math.inf)]
        for move in self.moves:
            if move.answers != found[-1].version:
                found[-1] = found[-1]._replace(until=move.ended)
                found.append(Span(move.answers, move.begun, math.inf))
        return found

    def invalid(self, allowed_seconds: float) -> list[Answer]:
        """Answers of a version that was not valid at any moment while they were made.

        Args:
            allowed_seconds: how long it may take until a move is noticed.
        """
        return [
            answer
            for answer in self.answers
            if not any(
                answer.version == span.version
                and span.since <= answer.there
                and answer.asked <= span.until + allowed_seconds
                for span in self.spans
            )
        ]

    @property
    def delays(self) -> list[float]:
        """Of each span's end, the seconds to the last request that its version still answered."""
        spans = self.spans
        again = [*(span.since for span in spans[2:]), math.inf]  # from when it may answer again
        return [
            max(
                one.asked - span.until
                for one in self.answers
                if one.version == span.version and span.since <= one.asked < later
            )
            for span, later in zip(spans[:-1], again, strict=True)
        ]

    def summary(self, poll_seconds: float) -> dict[str, object]:
        """For people and for JSON."""
        return {
            "answers": self.statuses,
            "versions": dict(Counter(answer.version for answer in self.answers)),
            "moves": [move.to for move in self.moves],
            "connections": len(self.connections),
            "not_valid": len(self.invalid(poll_seconds + SLACK_SECONDS)),
            "probes": dict(self.probes),
            "noticed_after_s": [round(delay, 2) for delay in self.delays],
        }


def write_versions(folder: Path) -> Path:
    """Two versions of a model, and the label ``stable``, which leads to the first."""
    for number in (1, 2):
        (folder / str(number)).mkdir(parents=True)
        write_model(folder / str(number) / "model.onnx", make_card(version=f"test-{number}"))
    (folder / "stable").symlink_to("1")
    return folder


def move_labels(server: Server, folder: Path, requests: int, moves: int) -> Seen:
    """Ask a server while ``stable`` is moved, back at last.

    Args:
        server: serves ``folder``.
        folder: as of ``write_versions``.
        requests: how many are sent at least.
        moves: an even number.
    """
    return asyncio.run(_Run(server, folder, requests).run(moves))


class _Http:
    """A kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, int]:
        """Status and version of the answer.

        Raises:
            OSError, EOFError, TimeoutError: there is none.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            self._writer.write(request)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
            await self._reader.readexactly(int(fields["content-length"]))
        return int(first.split(" ")[1]), int(fields.get("x-model-version", 0))

    def close(self) -> None:
        self._writer.close()


class _Run:
    """One run: those who ask, who look at readiness, and who moves the label."""

    def __init__(self, server: Server, folder: Path, requests: int) -> None:
        self._server = server
        self._folder = folder
        self._requests = requests
        self._over = False
        self._seen = Seen([[] for _ in range(CONNECTIONS)])

    async def run(self, moves: int) -> Seen:
        asking = [asyncio.create_task(self._ask(into)) for into in self._seen.connections]
        looking = asyncio.create_task(self._look())
        try:
            for number, move in enumerate(self._plan(moves), start=1):
                await self._until(partial(self._has_asked, number / (moves + 1)))
                await move()
            await self._until(partial(self._has_asked, 1.0))
        finally:
            self._over = True
            await asyncio.gather(looking, *asking)
        return self._seen

    def _plan(self, moves: int) -> Iterator[Callable[[], Awaitable[None]]]:
        """To the second version and back; in the middle, to the broken one and back."""
        for number in range(0, moves, 2):
            if number == moves // 4 * 2:
                yield self._break
                yield partial(self._move, "label", 1)
            else:
                yield partial(self._move, "label", 2)
                yield partial(self._move, "rollback", 1)

    # ---- moving ------------------------------------------------------------------------------

    async def _move(self, command: str, to: int) -> None:
        """Move the label, and wait until every connection has seen it."""
        words = [command, str(self._folder), "stable", *([str(to)] if command == "label" else [])]
        begun = time.monotonic()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "service", "models", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._seen.moves.append(Move(begun, time.monotonic(), to, to))
        await self._until(lambda: all(one[-1].version == to for one in self._seen.connections))

    async def _break(self) -> None:
        """Label a version that cannot be opened, and wait until each worker has tried."""
        broken = self._folder / str(BROKEN)
        broken.mkdir()
        (broken / "model.onnx").write_bytes(b"no model")
        begun, beside = time.monotonic(), self._folder / "stable.new"
        beside.symlink_to(str(BROKEN))
        beside.replace(self._folder / "stable")  # ln -s 3 stable.new && mv -T stable.new stable
        self._seen.moves.append(Move(begun, time.monotonic(), BROKEN, 1))
        deadline = time.monotonic() + PATIENCE_SECONDS
        name = "labelserve_model_loads_total"
        while await asyncio.to_thread(self._server.metric, name, result="refused") < SERVER_WORKERS:
            assert time.monotonic() < deadline, "nobody has tried the broken version"
            await asyncio.sleep(PAUSE_SECONDS)

    async def _until(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not claim():
            assert time.monotonic() < deadline, self._seen.orders
            await asyncio.sleep(PAUSE_SECONDS)

    def _has_asked(self, share: float) -> bool:
        return sum(map(len, self._seen.connections)) >= share * self._requests

    # ---- asking ------------------------------------------------------------------------------

    async def _ask(self, into: list[Answer]) -> None:
        request = http_request("POST", "/predict", encode(Image.new("RGB", (9, 7)), "PNG"))
        connection = await _Http.open(self._server.port)
        while not self._over:
            asked = time.monotonic()
            try:
                status, version = await connection.ask(request)
            except (OSError, EOFError, TimeoutError):
                status, version = 0, 0
                connection.close()
                connection = await _Http.open(self._server.port)
            into.append(Answer(asked, time.monotonic(), status, version))
            await asyncio.sleep(PAUSE_SECONDS)
        connection.close()

    async def _look(self) -> None:
        request = http_request("GET", "/health/ready")
        connection = await _Http.open(self._server.port)
        while not self._over:
            status, _ = await connection.ask(request)
            self._seen.probes[status] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        connection.close()


def main() -> int:
    """Run it, print what was seen as JSON, and say by the exit status whether it is good."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.label_moves", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--poll-seconds", type=float, default=1.0)
    parser.add_argument("--worker", choices=WORKERS, default="asyncio")
    chosen = parser.parse_args()
    settings = {"model_poll_seconds": chosen.poll_seconds, "worker": chosen.worker}
    with tempfile.TemporaryDirectory() as name:
        folder = write_versions(Path(name) / "versions")
        with start_server(folder, workers=SERVER_WORKERS, **settings) as server:
            seen = move_labels(server, folder, chosen.requests, chosen.moves)
    json.dump(seen.summary(chosen.poll_seconds), sys.stdout)
    sys.stdout.write("\n")
    good = set(seen.statuses) == set(seen.probes) == {200}
    return 0 if good and not seen.invalid(chosen.poll_seconds + SLACK_SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main())
