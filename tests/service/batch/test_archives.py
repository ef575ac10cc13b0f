"""Images in archives: as they are, and as they arrive when something went wrong."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from service.batch.listing import Listing
from service.serving.problems import Problem

FILES = {"a.jpg": b"A" * 700, "cats/b.png": b"B" * 5000, "./c.webp": b"C", "notes.txt": b"n"}
IMAGES = {"a.jpg": b"A" * 700, "cats/b.png": b"B" * 5000, "c.webp": b"C"}


def as_tar(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def as_zip(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def two_gzips(data: bytes) -> bytes:
    """As pigz and bgzip write it."""
    return gzip.compress(data[:3000]) + gzip.compress(data[3000:])


def contents(path: Path) -> dict[str, bytes | str]:
    """By names below the archive: bytes, or the text of a problem; the archive itself is ""."""
    found: dict[str, bytes | str] = {}
    for name, load in Listing([str(path)], ()):
        assert load is not None
        content = load()
        key = name.removeprefix(str(path)).removeprefix("/")
        assert key not in found
        found[key] = content.detail if isinstance(content, Problem) else content
    return found


MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "x.tar": bytes,
    "x.tar.gz": gzip.compress,
    "x.TGZ": two_gzips,
    "x.tar.bz2": bz2.compress,
    "x.tar.xz": lzma.compress,
    "really-gz.tar": gzip.compress,
}


@pytest.mark.parametrize("name", MAKERS)
def test_tars(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(MAKERS[name](as_tar(FILES)))
    assert contents(path) == IMAGES
    assert [*contents(path)] == [*IMAGES]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "x.ZIP"
    path.write_bytes(as_zip({**FILES, "__MACOSX/._a.jpg": b"x", "more/": b""}, compression))
    assert contents(path) == IMAGES


def test_members_that_are_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    """As those of other shards are, and those that were done."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(as_tar(FILES)))
    last = [*Listing([str(path)], ())][-1]
    assert last.name.endswith("c.webp")
    listing = iter(Listing([str(path)], ()))
    next(listing)
    load = next(listing).load
    assert load is not None
    assert load() == FILES["cats/b.png"]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
@pytest.mark.parametrize("kept", [512 + 300, 512 + 1024 + 100, 1536 + 512 + 2000, 1536])
def test_a_tar_that_was_cut_off(tmp_path: Path, name: str, kept: int) -> None:
    """Within a member, within a head, and between two: what came before is answered."""
    path = tmp_path / name
    data = as_tar(FILES)[:kept]
    path.write_bytes(MAKERS[name](data))
    found = contents(path)
    assert "cannot be read to its end" in str(found.pop(""))
    for member, content in found.items():
        whole = content == IMAGES[member]
        assert whole or "cannot be read" in str(content)
    assert (found.get("a.jpg") == IMAGES["a.jpg"]) == (kept >= 512 + 700)


def test_a_gzip_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    noise = {f"{i}.jpg": gzip.compress(str(i).encode() * 400) for i in range(99)}
    data = gzip.compress(as_tar(noise))
    path.write_bytes(data[: len(data) // 2])
    found = contents(path)
    assert "cannot be read to its end" in str(found.pop(""))
    assert sum(isinstance(content, bytes) for content in found.values()) > 5


def test_a_tar_damaged_in_the_middle_does_not_pass_for_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    data = bytearray(as_tar(FILES))
    data[1536:2048] = b"!" * 512  # the second head
    path.write_bytes(data)
    found = contents(path)
    assert found["a.jpg"] == IMAGES["a.jpg"]
    assert "it is damaged, or was cut off" in str(found[""])


def encrypted() -> bytes:
    """The flag that says so is all that is looked at."""
    data = bytearray(as_zip({"a.jpg": b"A"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def one_broken_member() -> bytes:
    data = bytearray(as_zip(IMAGES, zipfile.ZIP_STORED))
    data[data.index(b"B" * 5000)] ^= 1
    return bytes(data)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(encrypted())
    assert contents(tmp_path / "x.zip") == {"a.jpg": "the archive's member is encrypted"}


def test_a_zip_with_a_broken_member(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(one_broken_member())
    found = contents(tmp_path / "x.zip")
    assert "Bad CRC-32" in str(found.pop("cats/b.png"))
    assert found == {name: IMAGES[name] for name in ("a.jpg", "c.webp")}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("data", [b"", b"hello, this is no archive", as_zip(IMAGES)[:-30]])
def test_what_is_no_archive_has_one_problem(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = contents(tmp_path / name)
    assert list(found) == [""]
    assert "\n" not in str(found[""])
    assert "cannot be read to its end" in str(found[""])


def test_missing_and_empty_archives(tmp_path: Path) -> None:
    (tmp_path / "empty.zip").write_bytes(as_zip({"notes.txt": b"n"}))
    assert contents(tmp_path / "empty.zip") == {"": "the archive has no images"}
    said = contents(tmp_path / "missing.tar")
    assert said == {"": "the archive cannot be read to its end: No such file or directory"}


def test_links_in_tars_are_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "b.jpg"
        archive.addfile(member)
    assert contents(tmp_path / "x.tar") == {"a.jpg": "the archive's member is a link to b.jpg"}


def test_a_long_tar_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(as_tar({f"{i}.jpg": b"x" for i in range(6000)}))
    listing = iter(Listing([str(path)], ()))
    for _ in range(100):
        next(listing)
    tracemalloc.start()
    for _ in range(5000):
        next(listing)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000  # tarfile would keep some 2 kB a member


def peak(path: Path) -> int:
    """The most bytes of Python's objects while an archive is read; it has a problem."""
    tracemalloc.start()
    try:
        assert any(isinstance(content, str) for content in contents(path).values())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_has_more_than_it_claims(tmp_path: Path, compression: int) -> None:
    size, claimed = (struct.pack("<I", number) for number in (30_000_000, 1000))
    data = as_zip({"a.jpg": bytes(30_000_000)}, compression)
    (tmp_path / "x.zip").write_bytes(data.replace(size, claimed))
    assert peak(tmp_path / "x.zip") < 3_000_000


def head(kind: bytes, size: int, name: str = "a.jpg") -> bytes:
    """A member's head, whatever its size."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def record(size: int, name: str = "") -> bytes:
    """An extended head's record of so many bytes, but for a thousand."""
    return b"%d comment%s=%s\n" % (size, name.encode(), b"x" * (size - 1000))


def sparse(blocks: int) -> bytes:
    """A member whose map goes on for so many blocks."""
    first = bytearray(head(tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1
    checksum = 256 + sum(first[:148]) + sum(first[156:])
    first[148:156] = b"%06o\0 " % checksum
    return bytes(first) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * blocks


def extended(kind: bytes, content: bytes) -> bytes:
    return head(kind, len(content)) + content + bytes(-len(content) % 512)


LARGE = 12_000_000
BOMBS = {
    "a path": lambda: extended(tarfile.GNUTYPE_LONGNAME, b"a" * LARGE),
    "a link": lambda: extended(tarfile.GNUTYPE_LONGLINK, b"a" * LARGE),
    "a head": lambda: extended(tarfile.XHDTYPE, record(LARGE)),
    "a global head": lambda: extended(tarfile.XGLTYPE, record(LARGE)),
    "of Solaris": lambda: extended(tarfile.SOLARIS_XHDTYPE, record(LARGE)),
    "a map": lambda: sparse(LARGE // 512),
    "a map in the file": lambda: (
        extended(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n")
        + head(tarfile.REGTYPE, LARGE)
        + b"%d\n" % LARGE
        + (b"1" * 20 + b"\n") * (LARGE // 21)
    ),
    "many global heads": lambda: b"".join(
        extended(tarfile.XGLTYPE, record(500_000, str(number)))
        + head(tarfile.REGTYPE, 0, f"{number}.jpg")
        for number in range(40)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_tar_whose_heads_are_large(tmp_path: Path, name: str) -> None:
    """They are read as a whole, before there is a member that could be refused."""
    data = BOMBS[name]() + as_tar(IMAGES)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data, 1))
    del data
    assert "the head of a member has more than" in str(last_problem(tmp_path / "x.tar.gz"))
    assert peak(tmp_path / "x.tar.gz") < 8_000_000


def last_problem(path: Path) -> str:
    """What is said of the archive itself."""
    *_, (name, load) = Listing([str(path)], ())
    assert name == str(path)
    assert load is not None
    content = load()
    assert isinstance(content, Problem)
    return str(content.detail)


DAMAGED = {
    "heads upon heads": extended(tarfile.GNUTYPE_LONGLINK, b"a") * 2000,
    "beyond any file": head(tarfile.REGTYPE, 1 << 70),
    "backwards": head(tarfile.REGTYPE, -512),
    "backwards from afar": head(tarfile.REGTYPE, 0) * 3 + head(tarfile.REGTYPE, -1024),
    "backwards in an extended head": (
        extended(tarfile.XHDTYPE, b"14 size=-5120\n") + head(tarfile.REGTYPE, 0)
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_that_leads_astray(tmp_path: Path, name: str, suffix: str) -> None:
    """What came before is answered, and the command goes on."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(MAKERS[f"x{suffix}"](DAMAGED[name] + as_tar(IMAGES)))
    found = [one.name for one, _ in zip(Listing([str(path)], ()), range(20), strict=False)]
    assert len(found) < 20
    assert "cannot be read to its end" in last_problem(path)


@pytest.mark.parametrize(("name", "make"), [("x.tar", as_tar), ("x.zip", as_zip)])
def test_members_outside_of_the_archive_s_folder_are_answered(
    tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Nothing is written to where their names point."""
    (tmp_path / name).write_bytes(make({"../photos/1.jpg": b"A", "../.hidden/2.jpg": b"B"}))
    assert contents(tmp_path / name) == {"../photos/1.jpg": b"A"}


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.zip"])
def test_a_pipe_called_an_archive(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "it is no file" in str(contents(tmp_path / name)[""])
