"""The journal on disk."""

import os
from pathlib import Path

import pytest

from service.batch.journal import replace_on_disk


def test_the_file_is_on_disk_before_it_is_moved_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, path = tmp_path / "draft", tmp_path / "file"
    draft.write_bytes(b"new")
    path.write_bytes(b"old")
    synced: list[tuple[bool, bytes]] = []

    def fsync(descriptor: int) -> None:
        is_folder = os.path.samestat(os.fstat(descriptor), tmp_path.stat())
        synced.append((is_folder, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_on_disk(draft, path)
    assert synced == [(False, b"old"), (True, b"new")]
