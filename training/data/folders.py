"""Images in folders: which files there are, what they are called, and which split each is in.

Nothing is opened here. The order of files, and with it every split, depends on names alone: not on
the file system, nor on which images turn out to be unreadable.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config import TEST_FRACTION, TrainConfig
from training.errors import DataError
from training.progress import say

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm"),
)
# Folders that divide the images, rather than labels.
PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Listing:
    """Files and their labels, before any is opened: one entry of `targets` for each path."""

    folder: Path
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> Listing:
        """The entries at these indices."""
        paths = tuple(self.paths[i] for i in indices)
        return Listing(self.folder, self.labels, paths, self.targets[indices])


def list_splits(config: TrainConfig) -> tuple[Listing, Listing, Listing]:
    """Files for train, validation and test, each label in each of them.

    A folder with `train/` and `test/` keeps that border, and validation is its own or taken from
    train (see `parts`); any other is split three ways. Raises DataError.
    """
    if config.data is None:
        raise ValueError("there is no folder to list")
    rng = np.random.default_rng(config.seed)
    folder = config.data
    _require_folder(folder)
    listed = {title: list_images(path) for title, path in parts(folder).items()}
    if not listed:
        listed["train"], listed["test"] = _divided(list_images(folder), TEST_FRACTION, rng)
    _require_same_labels(listed)
    rest, test = listed["train"], listed["test"]
    if "validation" in listed:
        return rest, listed["validation"], test
    if PARTS.get(test.folder.name.casefold()) == "validation":
        say(f"{folder} has no test folder: {test.folder} is kept for the final figures instead")
    return *_divided(rest, config.validation_fraction, rng), test


def parts(folder: Path) -> dict[str, Path]:
    """The folder's own `train/`, `validation/` and `test/`, each of label folders; else nothing.

    Upper and lower case and short names (PARTS) are understood. A split folder has always a train
    and a test: where validation alone stands beside train, that is the test. Without label folders
    in them, or with train alone among other folders, these are names of labels.

    Raises:
        DataError: a part twice, or train with label folders and nothing to measure on.
    """
    named = [path for path in _sorted(folder) if path.is_dir()] if folder.is_dir() else []
    found: dict[str, Path] = {}
    for path in named:
        title = PARTS.get(path.name.casefold(), "")
        if title and any(entry.is_dir() for entry in _sorted(path)):
            if title in found:
                raise DataError(
                    f"{folder} has both {found[title].name}/ and {path.name}/: keep one"
                )
            found[title] = path
    if found.keys() == {"train"} and all(path.name.casefold() in PARTS for path in named):
        raise DataError(
            f"{folder} has label folders in {found['train'].name}/ only: give "
            f"--data {found['train']} to have that split, or sort the other images by label, too"
        )
    if "train" not in found or len(found) < 2:
        return {}
    if "test" not in found:
        found["test"] = found.pop("validation")
    return found


def _divided(
    listing: Listing, fraction: float, rng: np.random.Generator
) -> tuple[Listing, Listing]:
    kept, held = stratified_split(listing, fraction, rng)
    return listing.take(kept), listing.take(held)


def _require_same_labels(listed: dict[str, Listing]) -> None:
    train = listed["train"]
    for other in listed.values():
        odd = sorted(set(train.labels) ^ set(other.labels))
        if odd:
            raise DataError(
                f"{train.folder} and {other.folder} do not share labels: {', '.join(odd)}"
            )


def list_images(folder: Path, *, quiet: bool = False) -> Listing:
    """The images of a folder of label folders, however deep, sorted by the bytes of their paths.

    Hidden files and folders are passed over in silence, files with other suffixes with a word,
    unless `quiet`. Links to folders inside a label's are not followed.
    Labels are the folders' names in Unicode's composed form, as macOS decomposes them.

    Raises:
        DataError: no such folder, fewer than two labels, a label without images, or a name that is
            no label: of two folders, or not in UTF-8.
    """
    _require_folder(folder)
    folders = [path for path in _sorted(folder) if path.is_dir()]
    labels = tuple(unicodedata.normalize("NFC", path.name) for path in folders)
    if len(labels) < 2:
        found = f"one label folder only ({labels[0]})" if labels else "no label folders"
        raise DataError(
            f"{folder} has {found}; it needs a folder of images for each of two or more labels"
        )
    _require_names(folder, labels)
    paths: list[Path] = []
    targets: list[int] = []
    others: Counter[str] = Counter()
    for target, label_folder in enumerate(folders):
        files = sorted(_files_below(label_folder), key=_bytes)
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        others.update(path.suffix.lower() for path in files if path.suffix.lower() not in SUFFIXES)
        if not images:
            raise DataError(f"label folder {label_folder} has no images ({', '.join(SUFFIXES)})")
        paths += images
        targets += [target] * len(images)
    if others and not quiet:
        kinds = ", ".join(f"{others[suffix]} {suffix or '(none)'}" for suffix in sorted(others))
        say(f"{folder}: files passed over by their suffix: {kinds}")
    return Listing(folder, labels, tuple(paths), np.array(targets, np.int64))


def _require_names(folder: Path, labels: Sequence[str]) -> None:
    for label, times in Counter(labels).items():
        if times > 1:
            raise DataError(
                f"{folder} has {times} folders that are called {label!r}, once their accents are "
                "written alike: make one of them"
            )
        if label != label.encode("utf-8", "replace").decode():
            raise DataError(f"{folder}: the name of label folder {label!r} is not in UTF-8")


def stratified_split(
    listing: Listing, fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, held) with about `fraction` of each label held, at least one, never all.

    Both are ascending. Raises DataError for a label with too few images.
    """
    kept: list[NDArray[np.int64]] = []
    held: list[NDArray[np.int64]] = []
    for target, label in enumerate(listing.labels):
        indices = rng.permutation(np.flatnonzero(listing.targets == target))
        if len(indices) < 2:
            raise DataError(
                f"label {label!r} in {listing.folder} has too few images: train, validation and "
                "test need one each at the least"
            )
        count = min(max(1, round(fraction * len(indices))), len(indices) - 1)
        held.append(indices[:count])
        kept.append(indices[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"data folder {folder} {what}")


def _sorted(folder: Path) -> list[Path]:
    """What a folder holds, hidden entries apart, in an order that no system changes."""
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror or error}") from error
    return sorted(entries, key=_bytes)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in _sorted(folder):
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _files_below(path)


def _bytes(path: Path) -> bytes:
    return path.as_posix().encode("utf-8", "surrogateescape")
