"""Which images there are: files, folders, patterns, lists of names and archives, one after another.

Nothing is kept of what was passed: ten million images take no more memory than ten, but for the
names of the one folder that is being listed, the directory of a zip, and what matches a pattern.
"""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from service.batch.archives import Archives, is_archive
from service.batch.errors import Stopped
from service.batch.items import Listed, passed_over, problem
from service.batch.names import names_in
from service.inference.image_files import SUFFIXES, is_called_an_image, is_passed_over

STANDARD_INPUT = "-"


class Listing:
    """All images of some sources, in an order that is the same each time.

    Sources come in the order given, then lists; a folder's entries by the bytes of their names, a
    list's and an archive's as they stand there. Whatever cannot be listed is an item with a
    problem, in its place.

    Args:
        sources: files, folders, patterns (``photos/**/*.jpg``), tar and zip archives, and ``-`` for
            names on standard input.
        lists: files of names, each of a file or of an archive.
        reads_tars: whether tars are read; else they are only weighed.

    ``passed``: how many files of folders and archives were passed over, by their endings.
    """

    def __init__(
        self, sources: Sequence[str], lists: Sequence[str], *, reads_tars: bool = True
    ) -> None:
        self.sources = sources
        self.lists = lists
        self.passed: Counter[str] = Counter()
        self.archives = Archives(self.passed, reads_tars=reads_tars)

    def __iter__(self) -> Iterator[Listed]:
        for source in self.sources:
            yield from self._of_source(source)
        for path in self.lists:
            yield from self._of_names(path)

    def _of_source(self, source: str) -> Iterator[Listed]:
        if source == STANDARD_INPUT:
            yield from self._of_names(None)
        elif os.path.isdir(source):  # noqa: PTH112  a Path takes ten times as long
            yield from self._of_top_folder(source)
        elif glob.has_magic(source) and not os.path.lexists(source):
            yield from self._of_pattern(source)
        else:
            yield from self._of_name(source)

    def _of_names(self, path: str | None) -> Iterator[Listed]:
        for name in _names(path):
            yield from self._of_name(os.fsdecode(name))

    def _of_name(self, name: str) -> Iterator[Listed]:
        if is_archive(name):
            yield from self.archives.members(name)
        else:
            yield Listed(name)

    def _of_pattern(self, pattern: str) -> Iterator[Listed]:
        """Files that match, whatever they end with: as the shell would have it, but for folders."""
        found = sorted(glob.iglob(pattern, recursive=True), key=os.fsencode)  # noqa: PTH207
        files = [name for name in found if not os.path.isdir(name)]  # noqa: PTH112
        if not files:
            yield problem(pattern, "no file matches this pattern")
        for name in files:
            yield from self._of_name(name)

    def _of_top_folder(self, folder: str) -> Iterator[Listed]:
        passed_before = self.passed.total()
        is_empty = True
        for listed in self._of_folder(folder):
            is_empty = False
            yield listed
        if is_empty:
            others = self.passed.total() - passed_before
            yield problem(
                folder,
                f"the folder has no images (names that end with {' '.join(SUFFIXES)})"
                + (f", but {others} other files" if others else ""),
            )

    def _of_folder(self, folder: str) -> Iterator[Listed]:
        """Images and archives below a folder; entries that are folders come in their place."""
        try:
            with os.scandir(folder) as entries:
                found = [self._kind(entry) + entry.name for entry in entries]
        except OSError as error:
            yield problem(folder, f"the folder cannot be read: {error.strerror or error}")
            return
        found.sort(key=lambda one: os.fsencode(one[1:]))
        for one in found:
            kind, path = one[0], os.path.join(folder, one[1:])  # noqa: PTH118
            if kind == _FILE:
                yield from self._of_name(path)
            elif kind == _FOLDER:
                yield from self._of_folder(path)
            elif kind == _LINK:
                yield problem(path, "a link to a folder is not followed: name it as a source")

    def _kind(self, entry: "os.DirEntry[str]") -> str:
        """One letter, which takes no memory beside the name."""
        if is_passed_over(entry.name):
            return _NOTHING
        try:
            return self._kind_of_shown(entry)
        except OSError:
            return _FILE  # why it cannot be looked at is told when it is read

    def _kind_of_shown(self, entry: "os.DirEntry[str]") -> str:
        if entry.is_dir(follow_symlinks=False):
            return _FOLDER
        if is_called_an_image(entry.name) or is_archive(entry.name):
            return _FILE  # a pipe, or a link that leads nowhere, is told when it is read
        if entry.is_dir():
            return _LINK
        passed_over(entry.name, self.passed)
        return _NOTHING


_FILE, _FOLDER, _LINK, _NOTHING = "fdl-"


def _names(path: str | None) -> Iterator[bytes]:
    """The names in a list, None for standard input. Raises Stopped: its end cannot be read."""
    try:
        with _opened(path) as file:
            yield from names_in(file)
    except OSError as error:
        which = "on standard input" if path is None else path
        raise Stopped(f"the list {which} cannot be read: {error.strerror or error}") from error


def _opened(path: str | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path is None else open(path, "rb")  # noqa: PTH123
