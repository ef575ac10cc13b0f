"""Images in tar and zip archives, read from front to back and never unpacked.

A member is called by the archive's path and its own: ``photos.zip/cats/1.jpg``.
"""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import chain
from tarfile import EOFHeaderError  # type: ignore[attr-defined]
from typing import IO, Any, BinaryIO, Self, cast

from service.batch.items import (
    LARGEST,
    Content,
    Listed,
    Load,
    only_files,
    passed_over,
    problem,
    too_large,
    unreadable,
)
from service.inference.image_files import is_called_an_image, is_passed_over

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP_SUFFIXES = (".zip",)
# How compressed files begin.
_DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_LONGEST_SIGNATURE = 6
# What reading a damaged archive raises.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, ValueError, UnicodeError),  # a version that zipfile does not know
    *(RecursionError, OverflowError),  # heads upon heads, an offset beyond any file
)
# Bytes that are read to find a tar's next member, with what global heads left behind. A path has
# some 4,000, an extended attribute 64,000.
_LARGEST_HEAD = 1 << 20


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive that is looked into."""
    return name.lower().endswith(_TAR_SUFFIXES + _ZIP_SUFFIXES)


class Archives:
    """Reads archives, one after another.

    Args:
        passed: counts the members that are no images, by their endings.
        reads_tars: whether tars are read; else they are only weighed.

    ``tar_members``: images that tars have had so far.
    """

    def __init__(self, passed: "Counter[str]", *, reads_tars: bool = True) -> None:
        self._passed = passed
        self._reads_tars = reads_tars
        self.tar_members = 0
        self._tar_bytes = 0
        self._tar: BinaryIO | None = None

    @property
    def tar_bytes(self) -> int:
        """Bytes of tars so far, of the files as they are: a tar has no list of its members."""
        tar = self._tar
        try:
            return self._tar_bytes + (tar.tell() if tar else 0)
        except ValueError:  # closed at this moment
            return self._tar_bytes

    def members(self, path: str) -> Iterator[Listed]:
        """The images in an archive, in its order; what is wrong with it comes as the last item."""
        is_tar = not path.lower().endswith(_ZIP_SUFFIXES)
        if is_tar and not self._reads_tars:
            with suppress(OSError):
                self._tar_bytes += os.stat(path).st_size  # noqa: PTH116
            return
        is_empty = True
        try:
            for name, load in self._of_tar(path) if is_tar else _of_zip(path):
                inside = name.removeprefix("./")
                if not self._is_image(inside):
                    continue
                is_empty = False
                self.tar_members += is_tar
                yield Listed(f"{path}/{inside}", load)
        except _DAMAGE as error:
            yield problem(path, f"the archive cannot be read to its end: {_reason(error)}")
        else:
            if is_empty:
                yield problem(path, "the archive has no images")

    def _is_image(self, member: str) -> bool:
        if any(is_passed_over(part) for part in member.split("/") if part not in {".", ".."}):
            return False
        if not is_called_an_image(member):
            passed_over(member, self._passed)
            return False
        return True

    def _of_tar(self, path: str) -> Iterator[tuple[str, Load]]:
        with open(path, "rb", opener=only_files) as file:
            self._tar = file
            try:
                with _decompressed(file) as content:
                    yield from _of_opened_tar(_Forwards(content))
            finally:
                self._tar = None
                self._tar_bytes += file.tell()


def _of_opened_tar(content: "_Forwards") -> Iterator[tuple[str, Load]]:
    with _Tar.open(fileobj=cast("Any", content), mode="r:", tarinfo=_Member) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # it would keep all
            if not member.isdir():
                content.allowed = LARGEST
                yield member.name, partial(_tar_content, tar, member)
            kept = sum(map(len, chain.from_iterable(tar.pax_headers.items())))
            content.allowed = _LARGEST_HEAD - kept
        if not tar.has_ended:
            raise tarfile.ReadError("it is damaged, or was cut off")


def _of_zip(path: str) -> Iterator[tuple[str, Load]]:
    with (
        open(path, "rb", opener=only_files) as file,
        zipfile.ZipFile(file) as archive,
    ):
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, partial(_zip_content, archive, member)


class _Forwards:
    """A tar's content for tarfile, which believes all lengths: read only forwards, and so far.

    ``allowed``: how many bytes may be read.
    """

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self.allowed = _LARGEST_HEAD

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.allowed:
            raise tarfile.ReadError(f"the head of a member has more than {_LARGEST_HEAD} bytes")
        self.allowed -= size
        return self._content.read(size)

    def seek(self, place: int) -> None:
        if place < self.tell():
            raise tarfile.ReadError("it is damaged: a member has a negative size")
        self._content.seek(place)

    def tell(self) -> int:
        return self._content.tell()


class _Tar(tarfile.TarFile):
    """``has_ended``: the mark at the end was read; tarfile takes any damage for the end."""

    has_ended = False
    members: list[tarfile.TarInfo]


class _Member(tarfile.TarInfo):
    """A member, or what stands in its place."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            if isinstance(tarfile, _Tar):
                tarfile.has_ended = True
            raise


def _decompressed(file: BinaryIO) -> AbstractContextManager[IO[bytes]]:
    head = file.read(_LONGEST_SIGNATURE)
    file.seek(0)
    opener = next((of for mark, of in _DECOMPRESSORS.items() if head.startswith(mark)), None)
    return opener(file) if opener else nullcontext(file)


def _zip_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Content:
    if member.flag_bits & 1:
        return unreadable("the archive's member is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile would inflate bzip2 and LZMA to any size.
        return unreadable("the archive's member is compressed otherwise than by Deflate")
    if member.file_size > LARGEST:
        return too_large(member.file_size)
    try:
        with archive.open(member) as file:
            return file.read(member.file_size)  # without a size it would inflate all there is
    except _DAMAGE as error:
        return _damaged(error)


def _tar_content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Content:
    if member.islnk() or member.issym():
        return unreadable(f"the archive's member is a link to {member.linkname}")
    if not member.isfile():
        return unreadable("the archive's member is no file")
    if member.size > LARGEST:
        return too_large(member.size)
    try:
        file = tar.extractfile(member)
        assert file is not None  # noqa: S101  it is a file
        return file.read()
    except _DAMAGE as error:
        return _damaged(error)


def _damaged(error: Exception) -> Content:
    return unreadable(f"the archive's member cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
