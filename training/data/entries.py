"""What folders hold, and what of it is passed over, each kind with a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from service.inference.image_files import HEIC_SUFFIXES, LEFTOVERS, SUFFIXES
from training.errors import DataError
from training.progress import name_some, say

HEIC_ADVICE = (
    "HEIC is not read here: convert the files to JPEG (with ImageMagick: magick mogrify -format "
    "jpg *.heic), and let an iPhone take JPEGs (Settings, Camera, Formats: Most Compatible)"
)


class PassedOver:
    """What was not taken of a folder, to be said together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suffixes: Counter[str] = Counter()  # of files that are no images
        self.loose = 0  # images outside of label folders
        self.leftovers: Counter[str] = Counter()
        self.links: list[str] = []

    def tell(self, *, strict: bool = False) -> None:
        """Say it. Raises DataError for a link that was not followed, where `strict`."""
        if self.suffixes:
            say(f"{self.folder}: files passed over by their suffix: {counted(self.suffixes)}")
        if any(suffix in HEIC_SUFFIXES for suffix in self.suffixes):
            say(HEIC_ADVICE)
        if self.loose:
            say(f"{self.folder}: images passed over, as no label folder holds them: {self.loose}")
        if self.leftovers:
            names = counted(self.leftovers)
            say(f"{self.folder}: folders passed over, as systems leave them behind: {names}")
        if self.links and strict:
            raise DataError(f"{self.links[0]} (--strict; of this kind: {len(self.links)})")
        name_some(
            f"{self.folder}: links and other entries not followed: {len(self.links)}", self.links
        )


def counted(names: Counter[str]) -> str:
    """`2 .heic, 1 .txt`."""
    return ", ".join(f"{names[name]} {name or '(none)'}" for name in sorted(names))


def entries(folder: Path, passed: PassedOver | None = None) -> list[Path]:
    """The files and folders in a folder, in an order that no system changes.

    Hidden entries are left out, and with a note in `passed` what systems leave behind and what is
    neither file nor folder. Raises DataError.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror or error}") from error
    passed = passed or PassedOver(folder)
    return [path for path in sorted(found, key=as_bytes) if _is_wanted(path, passed)]


def _is_wanted(path: Path, passed: PassedOver) -> bool:
    if path.name.casefold() in LEFTOVERS:  # first: systems may refuse to say more of them
        passed.leftovers[path.name] += 1
        return False
    if path.is_file() or path.is_dir():
        return True
    what = "a link that leads nowhere" if path.is_symlink() else "neither file nor folder"
    passed.links.append(f"{path} is {what}")
    return False


def folders_in(folder: Path) -> list[Path]:
    """Of the entries, the folders."""
    return [path for path in entries(folder) if path.is_dir()]


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image."""
    return path.suffix.lower() in SUFFIXES


def files_below(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """All files in a folder and in those inside it. Links to folders are not followed."""
    for path in entries(folder, passed):
        if path.is_file():
            yield path
        elif path.is_symlink():
            passed.links.append(f"{path} is a link to a folder, inside a label's")
        else:
            yield from files_below(path, passed)


def as_bytes(path: Path) -> bytes:
    """What paths are sorted by."""
    return path.as_posix().encode("utf-8", "surrogateescape")
