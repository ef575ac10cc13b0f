"""Images in folders: which files there are, what they are called, and which split each is in.

Nothing is opened here. The order of files, and with it every split, depends on names alone: not on
the file system, nor on which images turn out to be unreadable.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.image_files import HEIC_SUFFIXES, SUFFIXES
from training.config import TEST_FRACTION, TrainConfig
from training.data.entries import (
    HEIC_ADVICE,
    PassedOver,
    as_bytes,
    counted,
    entries,
    files_below,
    folders_in,
    is_image,
)
from training.data.labels import (
    PARTS,
    require_folder,
    require_images_above,
    require_known,
    require_labels,
    require_names,
    require_no_parts,
    require_two,
)
from training.errors import DataError
from training.progress import say


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


def list_splits(config: TrainConfig, *, quiet: bool = False) -> tuple[Listing, Listing, Listing]:
    """Files for train, validation and test, each label in each of them.

    A folder with `train/` and `test/` keeps that border, and validation is its own or taken from
    train (see `parts`); any other is split three ways. What is passed over is said unless `quiet`.
    Raises DataError.
    """
    if config.data is None:
        raise ValueError("there is no folder to list")
    rng = np.random.default_rng(config.seed)
    folder = config.data
    require_folder(folder)

    found = parts(folder) or {"": folder}
    listed = {
        title: list_images(path, quiet=quiet, strict=config.strict) for title, path in found.items()
    }
    if "" in listed:
        listed["train"], listed["test"] = _divided(listed.pop(""), TEST_FRACTION, rng)
    elif not quiet:
        _tell_others(folder, [*found.values()])
    _require_same_labels(listed)
    rest, test = listed["train"], listed["test"]
    if "validation" in listed:
        return rest, listed["validation"], test
    if PARTS.get(test.folder.name.casefold()) == "validation" and not quiet:
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
    named = folders_in(folder) if folder.is_dir() else []
    found: dict[str, Path] = {}
    for path in named:
        title = PARTS.get(path.name.casefold(), "")
        if title and folders_in(path):
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
    return {title: found[title] for title in ("train", "validation", "test") if title in found}


def _tell_others(folder: Path, used: Sequence[Path]) -> None:
    others = [f"{path.name}/" for path in entries(folder) if path.is_dir() and path not in used]
    if others:
        say(f"{folder}: passed over beside its parts: {', '.join(others)}")


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


def list_images(
    folder: Path,
    *,
    quiet: bool = False,
    strict: bool = False,
    known: Sequence[str] = (),
) -> Listing:
    """The images of a folder of label folders, however deep, sorted by the bytes of their paths.

    Labels are the folders' names in Unicode's composed form, as macOS decomposes them. What is
    passed over is said unless `quiet`: see `PassedOver`.

    Args:
        folder: of label folders.
        quiet: say nothing.
        strict: links that are not followed are errors.
        known: the labels of a model that is measured. One of them is enough, and their folders may
            hold nothing but folders.

    Raises:
        DataError: no such folder, fewer than two labels, a label without images, labels that seem
            to be parts of the data, or that are not known, or a name that is no label: of two
            folders, or not in UTF-8.
    """
    require_folder(folder)
    passed = PassedOver(folder)
    inside = entries(folder, passed)
    passed.loose = sum(is_image(path) and path.is_file() for path in inside)
    folders = [path for path in inside if path.is_dir()]
    labels = tuple(unicodedata.normalize("NFC", path.name) for path in folders)
    require_labels(folder, folders, inside)
    if known:
        require_known(folder, labels, known)
    else:
        require_two(folders)
        require_no_parts(folder, folders)
        require_images_above(folder, folders)
    require_names(folder, labels)
    found = [_images_below(path, passed) for path in folders]
    if not quiet:
        passed.tell(strict=strict)
    targets = np.repeat(np.arange(len(found)), [len(paths) for paths in found])
    return Listing(folder, labels, tuple(path for paths in found for path in paths), targets)


def _images_below(folder: Path, passed: PassedOver) -> list[Path]:
    """A label's images; other files are counted. Raises DataError where there are none."""
    links = len(passed.links)
    files = sorted(files_below(folder, passed), key=as_bytes)
    others = Counter(path.suffix.lower() for path in files if not is_image(path))
    passed.suffixes.update(others)
    if others.total() < len(files):
        return [path for path in files if is_image(path)]
    is_heic = any(suffix in HEIC_SUFFIXES for suffix in others)
    but = f", but files with other suffixes: {counted(others)}" if others else ""
    but += f", but {passed.links[links]}" if len(passed.links) > links else ""
    but += "; " + HEIC_ADVICE if is_heic else ""
    raise DataError(f"label folder {folder} has no images ({', '.join(SUFFIXES)}){but}")


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
