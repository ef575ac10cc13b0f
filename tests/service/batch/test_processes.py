"""Work on all cores: in order, bounded, and with the same answers as in one process."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from multiprocessing import get_context, resource_tracker, spawn
from pathlib import Path
from typing import NoReturn

import pytest

from service.__main__ import main
from service.batch import processes
from service.batch.items import Item
from service.batch.processes import PATIENCE_SECONDS, Task, in_order, processes_for
from service.inference.classifier import Selection
from service.runtime.machine import Machine
from tests.images import encode, photograph

DATA = encode(photograph(1, 40, 60), "JPEG")


@pytest.fixture
def task(tiny_model: Path) -> Task:
    return Task(tiny_model.read_bytes(), "tiny.onnx", Selection(), "jsonl")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", -1.0)


def chunks(count: int) -> list[list[Item]]:
    """Of one image, and two in one of ten; a broken one among them."""
    return [
        [Item(f"{n}a", DATA if n % 7 else b"broken")] + [Item(f"{n}b", DATA)] * (n % 10 == 0)
        for n in range(count)
    ]


@pytest.mark.usefixtures("at_once")
def test_in_order_and_the_same_as_in_one_process(task: Task) -> None:
    work = task.work()
    expected = [([item.name for item in chunk], work(chunk)) for chunk in chunks(50)]
    assert [*in_order(chunks(50), task, work, 3)] == expected


@pytest.mark.usefixtures("at_once")
def test_what_is_ahead_is_bounded(task: Task) -> None:
    asked = 0

    def counted() -> Iterator[Sequence[Item]]:
        nonlocal asked
        for chunk in chunks(100):
            asked += 1
            yield chunk

    for taken, _ in enumerate(in_order(counted(), task, task.work(), 2), start=1):
        assert asked <= taken + 6
    assert asked == 100


@pytest.mark.usefixtures("at_once")
def test_so_are_their_bytes(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of archives travel: a few large ones are as much as many small ones."""
    monkeypatch.setattr(processes, "AHEAD_BYTES", 25_000)
    held = 0

    def counted() -> Iterator[Sequence[Item]]:
        nonlocal held
        for _ in range(30):
            assert held <= 25_000
            held += 10_000
            yield [Item("x", bytes(10_000))]

    for _ in in_order(counted(), task, task.work(), 2):
        held -= 10_000
    assert held == 0


@pytest.mark.usefixtures("at_once")
def test_a_process_that_ends_before_it_has_begun(task: Task) -> None:
    """It has read nothing of what it was sent: a model of more than a pipe holds."""
    large = task._replace(model=task.model + bytes(1_000_000))
    executable = spawn.get_executable()
    resource_tracker.ensure_running()  # a process of its own
    spawn.set_executable("/bin/false")
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(20)
    try:
        with pytest.raises(BrokenProcessPool):
            list(in_order(chunks(5), large, task.work(), 2))
    finally:
        signal.alarm(0)
        spawn.set_executable(executable)


@pytest.mark.usefixtures("at_once")
def test_a_process_that_cannot_be_started(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of memory, or because another ended at this moment, and the pool is closed."""

    def closed(*_: object) -> None:
        raise OSError("handle is closed")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", closed)
    with pytest.raises(BrokenProcessPool, match="handle is closed"):
        list(in_order(chunks(5), task, task.work(), 2))


@pytest.mark.usefixtures("at_once")
def test_no_process_is_left(task: Task) -> None:
    """Of one that the pool does not know, Python would wait for the end when it ends itself."""
    unknown = get_context("spawn").Process(target=time.sleep, args=(60,))

    def starting() -> Iterator[Sequence[Item]]:
        unknown.start()
        yield [Item("x", DATA)]

    list(in_order(starting(), task, task.work(), 2))
    unknown.join(20)
    assert unknown.exitcode == -signal.SIGTERM


def _too_long(*_: object) -> NoReturn:
    raise TimeoutError("it waits for a process that has ended")


def test_the_first_second_needs_no_processes(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", None)
    assert PATIENCE_SECONDS > 0.5
    assert len([*in_order(chunks(5), task, task.work(), 2)]) == 5


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [(1, 8e9, 1), (16, 64e9, 16), (16, 4e9, 2), (2, 1e8, 1), (0.5, 8e9, 1), (2.5, 8e9, 2)],
)
def test_how_many(cores: float, memory: float, expected: int) -> None:
    assert processes_for(Machine(cores, int(memory)), 4_000_000) == expected


@pytest.mark.usefixtures("at_once")
def test_a_process_that_is_killed_ends_the_command_with_a_line(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does when memory is short. What was done stays, and can be gone on with."""
    (tmp_path / "a.jpg").write_bytes(DATA)
    output = tmp_path / "out.jsonl"
    names = [str(tmp_path / "a.jpg")] * 2000

    def killing() -> Iterator[str]:
        for place, name in enumerate(names):
            if place == 1000:
                kill_one()
            yield name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.batch.listing.names_in", lambda _: map(os.fsencode, killing()))
        patch.setattr("service.batch.command.processes_for", lambda *_: 2)
        (tmp_path / "list").write_text("")
        asked = ["predict", str(tiny_model), f"--from={tmp_path / 'list'}", f"--output={output}"]
        assert main(asked) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("a process was killed, or ran out of memory; --resume goes on where it ended")
    assert output.read_text().count("\n") < 1000


def kill_one() -> None:
    """One of the processes of the pool."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        for pid in text.split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                return
        time.sleep(0.05)
