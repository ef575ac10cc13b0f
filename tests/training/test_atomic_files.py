import os
import sys
from pathlib import Path

import pytest

from training.atomic_files import draft_path, remove_drafts, require_writable, write_whole
from training.errors import ExportError


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")

    write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    with pytest.raises(TypeError):
        write_whole(path, "text in place of bytes")  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions there")
def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"x")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_drafts_of_the_killed_are_removed(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("a[1].onnx", ".a[1].onnx.x.draft", ".b.onnx.7.draft")]
    for path in (*others, tmp_path / ".a[1].onnx.4711.draft", draft_path(others[0])):
        path.write_bytes(b"half")

    remove_drafts(others[0], tmp_path / "nowhere" / "file")

    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_asking_leaves_nothing_behind_but_the_folder(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b" / "model.onnx")

    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_asking_keeps_an_earlier_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"earlier")

    require_writable(tmp_path / "model.onnx")

    assert (tmp_path / "model.onnx").read_bytes() == b"earlier"


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ExportError, match=r"model\.onnx"):
        require_writable(tmp_path / "file" / "model.onnx")
    with pytest.raises(ExportError, match="it is a folder"):
        require_writable(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody may write to")
def test_a_folder_without_permission_is_named() -> None:
    # /proc refuses even root, which tests in a container run as.
    with pytest.raises(ExportError, match=r"/proc/model\.onnx"):
        require_writable(Path("/proc/model.onnx"))


def test_a_draft_lies_beside_its_file() -> None:
    assert draft_path(Path("models/default.onnx")).parent == Path("models")
