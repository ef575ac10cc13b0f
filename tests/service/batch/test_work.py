"""What one process does with a chunk."""

import os
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from service.batch import items as items_module
from service.batch import work as work_module
from service.batch.items import Item, unreadable
from service.batch.work import Work
from service.inference.classifier import ALL, Classifier
from tests.images import encode, photograph


@pytest.fixture
def chunk(tmp_path: Path) -> list[Item]:
    """Files, bytes, and what has a problem already: more than a batch."""
    found = []
    for number in range(40):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encode(photograph(number, 20, 30), "JPEG"))
        found += [Item(str(path)), Item(f"{number}b", path.read_bytes())]
    return [*found, Item("missing.jpg"), Item("x", unreadable("said before")), Item(str(tmp_path))]


def test_slow_files_are_read_together_with_the_same_answers(
    tiny_classifier: Classifier, chunk: list[Item]
) -> None:
    expected = Work(tiny_classifier, ALL, "jsonl")(chunk)
    assert (expected.images, expected.failed) == (83, 3)
    together = threading.Barrier(8)

    def slow(_: str, __: int) -> bytes:
        time.sleep(0.01)
        return b"alone"

    def waiting(_: str, __: int) -> bytes:
        together.wait(20)
        return b"together"

    work = Work(tiny_classifier, ALL, "jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work_module, "_file", slow)
        assert work._contents([Item("a")] * 2) == [b"alone"] * 2
        patch.setattr(work_module, "_file", waiting)
        assert work._contents([Item("a")] * 16) == [b"together"] * 16
    assert work(chunk) == expected


@pytest.mark.parametrize("is_slow", [False, True])
def test_of_large_files_there_is_one_in_memory(
    tiny_classifier: Classifier, tmp_path: Path, is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "LARGEST_TOGETHER", 100_000)
    monkeypatch.setattr(work_module, "SLOW_SECONDS", -1.0 if is_slow else 1e9)
    names = [str(tmp_path / f"{number}.jpg") for number in range(16)]
    for number, name in enumerate(names):
        content = encode(photograph(number, 20, 30), "JPEG")
        Path(name).write_bytes(content + bytes(1_000_000 if number % 2 else 0))
    work = Work(tiny_classifier, ALL, "csv")
    assert work([Item(name) for name in names]).failed == 0  # and readers are started
    tracemalloc.start()
    try:
        assert work([Item(name) for name in names]).failed == 0
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large(
    tiny_classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "LARGEST", 100)
    monkeypatch.setattr(work_module, "LARGEST_TOGETHER", 50)
    monkeypatch.setattr(items_module, "LARGEST", 100)
    (tmp_path / "film.jpg").write_bytes(bytes(101))
    piece = Work(tiny_classifier, ALL, "csv")([Item(str(tmp_path / "film.jpg"))])
    assert piece.failed == 1
    assert b"the file has 101 bytes, 100 are allowed" in piece.rows


def test_what_is_no_file_is_not_read(tiny_classifier: Classifier, tmp_path: Path) -> None:
    """A pipe would be waited for, and zeros end only with the memory."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zeros.jpg").symlink_to("/dev/zero")
    names = ["pipe.jpg", "zeros.jpg"]
    piece = Work(tiny_classifier, ALL, "csv")([Item(str(tmp_path / name)) for name in names])
    assert piece.failed == 2
    assert piece.rows.count(b"the file cannot be read: it is no file, but a device or a pipe") == 2
