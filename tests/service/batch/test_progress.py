"""How many images there will be: counted where they can be, estimated for tars."""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from service.batch.listing import Listing
from service.batch.progress import Total
from service.batch.sharding import Shard
from tests.service.batch.test_archives import as_tar, as_zip

FILES = {f"{number}.jpg": bytes(3000) for number in range(100)}


def counted(listing: Listing, shard: Shard, seconds: float = 10) -> Total:
    """Once the thread is done."""
    total = Total(listing, shard)
    deadline = time.monotonic() + seconds
    while total._counted is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return total


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files, and a zip."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "more.zip").write_bytes(as_zip(FILES))
    return tmp_path


def test_files_and_zips_are_counted(folder: Path) -> None:
    assert counted(Listing([str(folder)], ()), Shard()).expected() == 200
    shards = [Shard(number, 3) for number in (1, 2, 3)]
    parts = [counted(Listing([str(folder)], ()), shard).expected() for shard in shards]
    assert sum(part or 0 for part in parts) == 200


def test_tars_are_estimated_by_how_far_they_are_read(folder: Path) -> None:
    (folder / "more.tar").write_bytes(as_tar(FILES))
    listing = Listing([str(folder)], ())
    total = counted(listing, Shard())
    assert total.expected() is None  # nothing of a tar was read yet
    for _ in itertools.islice(listing, 150):
        pass
    estimated = total.expected()
    assert estimated is not None
    assert 250 < estimated < 320


def test_names_on_standard_input_are_not_counted() -> None:
    assert Total(Listing(["-"], ()), Shard()).expected() is None


def test_names_in_a_pipe_are_left_to_who_answers_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listing = Listing([], [str(tmp_path / "pipe")])
    total = counted(listing, Shard(), seconds=0.2)
    assert total.expected() is None
    filling = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a.jpg\n" * 200_000,))
    filling.start()
    assert sum(1 for _ in listing) == 200_000
    filling.join()
