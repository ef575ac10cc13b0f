"""Which images sources have: files, folders, patterns, lists and archives."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.batch.listing import Listing
from service.serving.problems import Problem


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(*sources: str | Path, lists: tuple[str, ...] = ()) -> list[str]:
    return [one.name for one in Listing([*map(str, sources)], lists)]


def problems(*sources: str | Path) -> dict[str, str]:
    said = {}
    for one in Listing([*map(str, sources)], ()):
        content = one.load() if one.load else None
        if isinstance(content, Problem):
            said[one.name] = content.detail
    return said


def test_a_folder_has_its_images_sorted_however_deep(tmp_path: Path) -> None:
    write(tmp_path, "b.jpg", "a/2.PNG", "a/10.jpeg", "a/deep/er/x.webp", "c.heic", "ü.gif")
    write(tmp_path, "notes.txt", "README", ".hidden.jpg", "@eaDir/b.jpg", "a/.cache/y.jpg")
    listing = Listing([str(tmp_path)], ())
    assert [one.name.removeprefix(f"{tmp_path}/") for one in listing] == [
        "a/10.jpeg",
        "a/2.PNG",
        "a/deep/er/x.webp",
        "b.jpg",
        "c.heic",
        "ü.gif",
    ]
    assert listing.passed == {".txt": 1, "(none)": 1}


def test_files_are_taken_whatever_they_are_called(tmp_path: Path) -> None:
    write(tmp_path, "photo", "notes.txt")
    files = [tmp_path / "notes.txt", tmp_path / "photo", tmp_path / "missing"]
    assert found(*files) == [*map(str, files)]


def test_patterns(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "a/2.png", "b/c/3.jpg", "b/[x].jpg")
    assert found(tmp_path / "*/*.jpg") == [f"{tmp_path}/a/1.jpg", f"{tmp_path}/b/[x].jpg"]
    assert len(found(tmp_path / "**/*.jpg")) == 3
    assert found(tmp_path / "b/[x].jpg") == [f"{tmp_path}/b/[x].jpg"]  # a file of that name
    assert "no file matches" in problems(tmp_path / "*.bmp")[f"{tmp_path}/*.bmp"]
    assert len(found(tmp_path / "**")) == 4  # no folder, and no file twice


def test_lists_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one.jpg\0two\nlines.jpg\0")))
    (tmp_path / "list.txt").write_bytes(b"b.jpg\na.jpg\n\xff.jpg\n")
    names = found("x.jpg", "-", lists=(str(tmp_path / "list.txt"),))
    assert names == ["x.jpg", "one.jpg", "two\nlines.jpg", "b.jpg", "a.jpg", "\udcff.jpg"]


def empty(folder: Path) -> None:
    (folder / "below").mkdir()


def others(folder: Path) -> None:
    write(folder, "a.txt", "below/b.txt")


@pytest.mark.parametrize(
    ("make", "words"), [(empty, "has no images"), (others, "but 2 other files")]
)
def test_a_folder_without_images_has_a_problem(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path)
    assert found(tmp_path) == [str(tmp_path)]
    assert words in problems(tmp_path)[str(tmp_path)]


def test_a_folder_that_cannot_be_read_has_a_problem_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scan = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [Path(name).name for name in found(tmp_path)] == ["1.jpg", "b", "3.jpg"]
    assert problems(tmp_path) == {
        f"{tmp_path}/b": "the folder cannot be read: Permission denied",
    }


def test_links(tmp_path: Path) -> None:
    """To files they are followed; one to a folder is named, and one to nowhere is listed."""
    write(tmp_path, "real/1.jpg", "shown/2.jpg")
    (tmp_path / "shown" / "1.jpg").symlink_to(tmp_path / "real" / "1.jpg")
    (tmp_path / "shown" / "3.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "shown" / "circle").symlink_to(tmp_path / "shown")
    shown = tmp_path / "shown"
    assert [Path(name).name for name in found(shown)] == ["1.jpg", "2.jpg", "3.jpg", "circle"]
    assert list(problems(shown)) == [f"{shown}/circle"]
    assert len(found(tmp_path / "shown" / "circle")) == 4  # named, it is listed


def test_an_entry_that_cannot_be_looked_at_does_not_lose_its_folder(tmp_path: Path) -> None:
    """A link to itself here; on network storage also what is not allowed, or stale."""
    write(tmp_path, "1.jpg", "3.jpg")
    for name in ("2", "2.jpg", "2.zip"):
        (tmp_path / name).symlink_to(tmp_path / name)
    assert [Path(name).name for name in found(tmp_path)] == [
        "1.jpg",
        "2",
        "2.jpg",
        "2.zip",
        "3.jpg",
    ]


def test_a_pipe_that_is_called_an_image_is_listed(tmp_path: Path) -> None:
    """Whoever reads it says what it is, and does not wait."""
    write(tmp_path, "1.jpg")
    for name in ("camera.jpg", "camera.tar"):
        os.mkfifo(tmp_path / name)
    assert [Path(name).name for name in found(tmp_path)] == ["1.jpg", "camera.jpg", "camera.tar"]
