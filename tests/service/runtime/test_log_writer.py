"""The log's queue and thread, against readers that sleep, are gone, or come late."""

import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from service.runtime.log_writer import QUEUE_BYTES, LogWriter
from tests.server import eventually

LINE = b"x" * 499 + b"\n"


def gap(lines: int) -> bytes:
    return b"lost %d\n" % lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def read_lines(reading: int, last: bytes) -> list[bytes]:
    """Everything up to this line."""
    text = b""
    while not text.endswith(last):
        text += os.read(reading, 65536)
    return text.splitlines(keepends=True)


def test_lines_that_nobody_reads_are_dropped_counted_and_told_of(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, gap)
    dropped: list[int] = []
    writer.on_drop = dropped.append
    sent = 2 * QUEUE_BYTES // len(LINE)
    for _ in range(sent):
        writer.put(LINE)
    assert sum(dropped) > sent // 3
    writer.put(LINE)  # dropped too: the gap is one
    lost = sum(dropped)
    lines = read_lines(reading, gap(lost))
    assert lines[:-1] == [LINE] * (sent + 1 - lost)
    writer.put(b"after\n")
    assert read_lines(reading, b"after\n") == [b"after\n"]
    writer.flush(5)
    assert sum(dropped) == lost


def test_a_line_larger_than_the_queue_is_lost_alone(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LogWriter(writing, gap)
    writer.put(b"x" * QUEUE_BYTES + b"\n")
    writer.put(b"small\n")
    assert read_lines(reading, gap(1)) == [b"small\n", gap(1)]


def test_a_closed_log_loses_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    writer = LogWriter(writing, gap)
    dropped: list[int] = []
    writer.on_drop = dropped.append
    for _ in range(100):
        writer.put(LINE)
    writer.flush(5)
    assert sum(dropped) == 100
    assert eventually(lambda: threading.active_count() < 50)


def test_a_pipe_that_another_process_made_non_blocking(pipe: tuple[int, int]) -> None:
    """Node.js does so with the pipe it shares with its children."""
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LogWriter(writing, gap)
    for _ in range(1000):
        writer.put(LINE)
    writer.put(b"last\n")
    assert read_lines(reading, b"last\n") == [LINE] * 1000 + [b"last\n"]


def test_a_terminal_that_was_stopped() -> None:
    """Ctrl-S."""
    screen, terminal = os.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    writer = LogWriter(terminal, gap)
    for number in range(100):
        writer.put(b"line %d\n" % number)
    started = time.monotonic()
    writer.flush(0.2)
    assert 0.1 < time.monotonic() - started < 5
    termios.tcflow(terminal, termios.TCOON)
    assert len(read_lines(screen, b"line 99\r\n")) == 100
    writer.flush(5)
    os.close(screen)
    os.close(terminal)


def test_a_forked_process_writes_its_own_lines_only(pipe: tuple[int, int]) -> None:
    """Forked while the parent's thread waits for the reader, as gunicorn's master does."""
    reading, writing = pipe
    writer = LogWriter(writing, gap)
    for _ in range(400):  # more than the pipe holds
        writer.put(LINE)
    child = os.fork()
    if child == 0:
        writer.put(b"child\n")
        writer.flush(20)
        os._exit(0)
    lines: list[bytes] = []
    while len(lines) < 401:
        lines += os.read(reading, 4096).splitlines(keepends=True)
        lines = b"".join(lines).splitlines(keepends=True)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(lines) == sorted([LINE] * 400 + [b"child\n"])


SEVERAL = """
import os, sys
from service.runtime.log_writer import LogWriter
writer = LogWriter(1, lambda lines: b"")
name = b"a" if os.fork() else b"b"
for _ in range(40):
    writer.put(name * 9999 + b"\\n")
writer.flush(60)
if name == b"a":
    os.wait()
"""


def test_long_lines_of_several_processes_stay_whole() -> None:
    """A pipe takes them in several pieces, and what other processes write may come between."""
    process = subprocess.Popen([sys.executable, "-c", SEVERAL], stdout=subprocess.PIPE)
    assert process.stdout is not None
    text = b""
    while data := os.read(process.stdout.fileno(), 2000):
        text += data
    assert process.wait() == 0
    process.stdout.close()
    lines = text.splitlines()
    assert sorted(lines) == [b"a" * 9999] * 40 + [b"b" * 9999] * 40


LEAVING = """
import logging, logging.config, sys
from service.runtime import logs
from service.settings import Settings
logging.config.dictConfig(logs.configuration(Settings()))
for number in range(int(sys.argv[1])):
    logging.warning("line %d " + "x" * 200, number)
"""


def leave(reading_to_the_end: bool, lines: int) -> tuple[int, float, bytes]:
    """Status, seconds and output of a process that logs these lines, and ends."""
    started = time.monotonic()
    command = [sys.executable, "-c", LEAVING, str(lines)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if reading_to_the_end:
            output, errors = process.communicate()
        else:
            process.wait(30)
            output, errors = process.communicate()
        assert errors == b""
        return process.returncode, time.monotonic() - started, output


def test_a_process_that_ends_writes_its_last_lines() -> None:
    status, _, output = leave(reading_to_the_end=True, lines=2000)
    assert status == 0
    assert output.count(b"\n") == 2000


def test_a_process_ends_although_nobody_reads() -> None:
    _, usual, _ = leave(reading_to_the_end=True, lines=1)
    status, seconds, output = leave(reading_to_the_end=False, lines=2000)
    assert status == 0
    assert 0 < output.count(b"\n") < 2000
    assert seconds < 3 * usual + 3
