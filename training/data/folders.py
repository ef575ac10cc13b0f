"""Images in folders (or CIFAR-10 from Keras) → Dataset: labels and three splits of pixels.

Folders are listed and split first, which is quick, and decoded afterwards by the function that the
service decodes requests with, into one file of pixels that batches are read from. The order of
files, and with it every split, depends on names alone: not on the file system, nor on which images
turn out to be unreadable.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import ResizeRule
from service.inference.errors import ImageError
from service.inference.imaging import READABLE_FORMATS, ImageLimits, decode_image
from training.config import TrainConfig
from training.errors import DataError
from training.pixels import Images, PixelFile, PixelWriter
from training.progress import bar, quiet_start, say

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm"),
)
# A person's own files: what the project can read, as large as cameras make them.
LIMITS = ImageLimits(max_pixels=250_000_000, formats=READABLE_FORMATS)
CIFAR10_LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_LICENCE = (
    "none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)"
)
# Folders that divide the images, rather than labels.
PARTS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
FILES_A_TASK = 16
TASKS_AHEAD = 4  # for each core
NAMED_IN_FULL = 10  # files that are listed before the rest is only counted
CHUNK = 500  # images that are looked at together
_ADDRESS = re.compile(r" <[\w.]+ object at 0x\w+>")  # Pillow names the object it read from


@dataclass(frozen=True)
class Split:
    """Decoded images and what they show.

    `images`: uint8 [N, H, W, 3], RGB. `targets`: int64 [N], indices into the labels.
    """

    images: Images
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """All that a run sees. The test split is for the final figures and for nothing else."""

    name: str
    licence: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def counts(self) -> dict[str, int]:
        """Images per split."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }

    def digest(self) -> str:
        """Tells whether a resumed run sees the pixels that it started with."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for split in (self.train, self.validation):
            for i in range(0, len(split), CHUNK):
                digest.update(np.ascontiguousarray(split.images[i : i + CHUNK]).data)
            digest.update(np.ascontiguousarray(split.targets).data)
        return digest.hexdigest()


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


def load(config: TrainConfig) -> Dataset:
    """The data set that the configuration names, decoded and split.

    Raises:
        DataError: naming the folder or file, for anything that cannot be trained on.
    """
    if config.data is None:
        return _downloaded_cifar10(config)
    train, validation, test = list_splits(config)
    if config.dataset == "cifar10" and train.labels != CIFAR10_LABELS:
        raise DataError(
            f"{config.data} does not hold CIFAR-10: its labels are {', '.join(train.labels)}"
        )
    splits = decode_splits(config, {"train": train, "validation": validation, "test": test})
    known = config.dataset == "cifar10"
    return Dataset(
        config.data_name or ("CIFAR-10 (JPEG edition)" if known else config.data.resolve().name),
        config.data_licence or (CIFAR10_LICENCE if known else "not stated"),
        train.labels,
        *splits,
    )


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
        listed["train"], listed["test"] = _divided(list_images(folder), config.test_fraction, rng)
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


def decoded(
    paths: Sequence[Path], size: tuple[int, int], resize: ResizeRule, title: str
) -> Generator[NDArray[np.uint8] | str]:
    """Pixels, or what is wrong with the file, in the order of the paths.

    Files are decoded somewhat ahead of whoever takes the pixels, and no further.
    """

    def read(path: Path) -> NDArray[np.uint8] | str:
        try:
            return decode_image(path.read_bytes(), size, resize, LIMITS).pixels
        except (ImageError, OSError) as error:
            return _ADDRESS.sub("", str(error))

    def read_some(some: Sequence[Path]) -> list[NDArray[np.uint8] | str]:
        return [read(path) for path in some]

    # Threads, not processes: Pillow lets go of the lock while it decodes, and threads start alike
    # on every system. Several files a task, as a task costs as much as a small image.
    parts = (paths[i : i + FILES_A_TASK] for i in range(0, len(paths), FILES_A_TASK))
    workers = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(workers) as pool,
        bar(total=len(paths), desc=f"reading {title}", unit="image") as progress,
    ):
        coming = deque(
            pool.submit(read_some, part) for part in islice(parts, TASKS_AHEAD * workers)
        )
        try:
            while coming:
                results = coming.popleft().result()
                coming.extend(pool.submit(read_some, part) for part in islice(parts, 1))
                yield from results
                progress.update(len(results))
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def decode_splits(config: TrainConfig, listings: dict[str, Listing]) -> tuple[Split, Split, Split]:
    """Train, validation and test of the listed files, decoded into `config.pixel_file`.

    Says which files are unreadable and which pictures come more than once. A picture that is in
    two splits (the same pixels, whatever the files are called) is left out of the one that is
    trained on, or of validation where the other is test: figures are of pictures never seen.
    Where a split that was taken from the training images has lost all of a label by that, another
    of them takes their place.

    Raises:
        DataError: a label has no picture left in a split or, when strict, a file is unreadable.
    """
    path = config.pixel_file
    seen = _Seen()
    spans: dict[str, tuple[int, NDArray[np.int64]]] = {}
    try:
        with PixelWriter(path) as writer:
            for title in ("test", "validation", "train"):  # what must not be trained on is known
                first, decode = writer.count, partial(_decode_into, writer, config, seen, title)
                kept = decode(listings[title])
                if title != "train" and listings[title].folder == listings["train"].folder:
                    more, listings["train"] = _made_up(kept, listings["train"], decode)
                    kept = np.concatenate([kept, *more])
                _require_all(kept, listings[title], title)
                spans[title] = first, kept
    except OSError as error:
        raise DataError(f"decoded images cannot be kept in {path}: {error}") from error
    finally:
        seen.report()

    def split(title: str) -> Split:
        first, targets = spans[title]
        return Split(PixelFile(path, first, len(targets), config.image_size), targets)

    return split("train"), split("validation"), split("test")


def _made_up(
    kept: NDArray[np.int64], train: Listing, decode: Callable[[Listing], NDArray[np.int64]]
) -> tuple[list[NDArray[np.int64]], Listing]:
    """What `decode` keeps of a training image for each label that is missing, and the rest."""
    more: list[NDArray[np.int64]] = []
    taken: list[int] = []
    for target in sorted(set(range(len(train.labels))) - set(kept.tolist())):
        for index in np.flatnonzero(train.targets == target):
            taken.append(int(index))
            more.append(decode(train.take(np.array([index]))))
            if len(more[-1]):
                break
    return more, train.take(np.setdiff1d(np.arange(len(train.targets)), taken))


def _decode_into(
    writer: PixelWriter, config: TrainConfig, seen: _Seen, title: str, listing: Listing
) -> NDArray[np.int64]:
    """Append a split's pictures to the file; the labels of those that it keeps."""
    kept: list[int] = []
    broken: list[str] = []
    # Closed at once when something is wrong: its bar must not be drawn over what is said then.
    with closing(decoded(listing.paths, config.image_size, config.resize, title)) as results:
        for path, target, result in zip(listing.paths, listing.targets, results, strict=True):
            if isinstance(result, str):
                broken.append(f"{path}: {result}")
                if config.strict:
                    raise DataError(f"{broken[-1]} (--strict)")
            elif seen.is_new_to(title, path, listing.labels[target], result):
                writer.add(result)
                kept.append(int(target))
    name_some(
        f"{len(broken)} of {len(listing.paths)} images of the {title} split are unreadable and "
        "left out",
        broken,
    )
    return np.array(kept, np.int64)


def _require_all(targets: NDArray[np.int64], listing: Listing, title: str) -> None:
    left = np.bincount(targets, minlength=len(listing.labels))
    if not left.all():
        label = listing.labels[int(np.argmin(left))]
        raise DataError(
            f"label {label!r} in {listing.folder} has no readable image in the {title} split "
            "(those that another split has are not counted)"
        )


class _Seen:
    """Which pictures came before, by a digest of their pixels, and what to say about them."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[str, str, Path]] = {}
        self._across: list[str] = []
        self._contrary: list[str] = []
        self._again = 0

    def is_new_to(self, title: str, path: Path, label: str, pixels: NDArray[np.uint8]) -> bool:
        """Whether the picture may stand in this split: not where it stands in one before."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
        before = self._first.setdefault(digest, (title, label, path))
        if before[2] is path:
            return True
        pair = f"{path} = {before[2]}"
        if before[1] != label:
            self._contrary.append(pair)
        if before[0] != title:
            self._across.append(pair)
            return False
        self._again += 1
        return True

    def report(self) -> None:
        """Say what came more than once."""
        if self._again:
            say(f"the same picture again in its split: {self._again}")
        name_some(
            f"the same picture in two splits: {len(self._across)}; test, then validation, keeps it",
            self._across,
        )
        name_some(f"the same picture under two labels: {len(self._contrary)}", self._contrary)


def name_some(title: str, lines: Sequence[str]) -> None:
    """Say the title and the first few lines; nothing where there are none."""
    if not lines:
        return
    say(f"{title}:")
    for line in lines[:NAMED_IN_FULL]:
        say(f"  {line}")
    if len(lines) > NAMED_IN_FULL:
        say(f"  and {len(lines) - NAMED_IN_FULL} more")


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


def _downloaded_cifar10(config: TrainConfig) -> Dataset:
    """CIFAR-10's original pixels, from Keras' cache or its downloader."""
    if config.image_size != (32, 32):
        raise DataError("CIFAR-10 without --data is 32x32: give no other --image-size")
    with quiet_start():
        import keras  # with --data, all is read before TensorFlow starts
    try:
        (images, targets), (test_images, test_targets) = keras.datasets.cifar10.load_data()
    except Exception as error:  # the downloader raises a bare Exception when it fails
        raise DataError(
            f"CIFAR-10 cannot be downloaded; give its folder with --data ({error})"
        ) from error
    targets, test_targets = (x.reshape(-1).astype(np.int64) for x in (targets, test_targets))
    whole = Listing(Path("cifar10"), CIFAR10_LABELS, (), targets)
    kept, held = stratified_split(
        whole, config.validation_fraction, np.random.default_rng(config.seed)
    )
    return Dataset(
        config.data_name or "CIFAR-10",
        config.data_licence or CIFAR10_LICENCE,
        CIFAR10_LABELS,
        Split(images[kept], targets[kept]),
        Split(images[held], targets[held]),
        Split(test_images, test_targets),
    )
