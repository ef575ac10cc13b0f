"""Listed files → splits of pixels, decoded by the function that the service decodes requests with.

Pixels go into one file, which batches are read from. Unreadable files and images that come more
than once are said.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Generator, Sequence
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
from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import DecodedImage, ImageLimits, decode_image
from training.config import TrainConfig
from training.data.dataset import Split
from training.data.entries import HEIC_ADVICE
from training.data.folders import Listing
from training.data.pixels import PixelFile, PixelWriter
from training.data.record import LEFT_OUT, Row, digest_of
from training.data.twins import Twins
from training.errors import DataError
from training.progress import bar, name_some, say

# A person's own files: what the project can read, as large as cameras make them.
LIMITS = ImageLimits(max_pixels=250_000_000, formats=READABLE_FORMATS)
FILES_A_TASK = 16
TASKS_AHEAD = 4  # for each core
_ADDRESS = re.compile(r" <[\w.]+ object at 0x\w+>")  # Pillow names the object it read from


@dataclass(frozen=True)
class ReadFile:
    """A decoded image, and what its file is known by (see `record`)."""

    image: DecodedImage
    digest: str


def decoded(
    paths: Sequence[Path], size: tuple[int, int], resize: ResizeRule, title: str
) -> Generator[ReadFile | str]:
    """Images, or what is wrong with the file, in the order of the paths.

    Files are decoded somewhat ahead of what is taken, and no further.
    """

    def read(path: Path) -> ReadFile | str:
        try:
            content = path.read_bytes()
            image = decode_image(content, size, resize, LIMITS)
        except (ImageError, OSError) as error:
            return _ADDRESS.sub("", str(error))
        return ReadFile(image, digest_of(content))

    def read_some(some: Sequence[Path]) -> list[ReadFile | str]:
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


def decode_splits(
    config: TrainConfig, listings: dict[str, Listing]
) -> tuple[Split, Split, Split, tuple[Row, ...]]:
    """Train, validation and test of the listed files, decoded into `config.pixel_file`; a record.

    Says which files are unreadable and which images come more than once. An image that is in
    two splits (see `Twins`, whatever the files are called) is left out of the one that is
    trained on, or of validation where the other is test: figures are of images never seen.
    Where a split that was taken from the training images has lost all of a label by that, another
    of them takes their place.

    Raises:
        DataError: a label has no image left in a split or, when strict, a file is unreadable.
    """
    path = config.pixel_file
    twins = Twins()
    rows: list[Row] = []
    spans: dict[str, tuple[int, NDArray[np.int64]]] = {}
    try:
        with PixelWriter(path) as writer:
            keep = _Keeper(config, writer, twins, rows)
            for title in ("test", "validation", "train"):  # what must not be trained on is known
                first, decode = writer.count, partial(keep.images, title)
                kept = decode(listings[title])
                if title != "train" and listings[title].folder == listings["train"].folder:
                    more, listings["train"] = _made_up(kept, listings["train"], decode)
                    kept = np.concatenate([kept, *more])
                _require_all(kept, listings[title], title)
                spans[title] = first, kept
    except OSError as error:
        raise DataError(f"decoded images cannot be kept in {path}: {error}") from error
    finally:
        twins.report()

    def split(title: str) -> Split:
        first, targets = spans[title]
        return Split(PixelFile(path, first, len(targets), config.image_size), targets)

    return split("train"), split("validation"), split("test"), tuple(rows)


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


@dataclass(frozen=True)
class _Keeper:
    """Where the images of the splits go: pixels, what they look like, and who was in which."""

    config: TrainConfig
    writer: PixelWriter
    twins: Twins
    rows: list[Row]

    def images(self, title: str, listing: Listing) -> NDArray[np.int64]:
        """Append a split's images to the file; the labels of those that it keeps."""
        kept: list[int] = []
        broken: list[str] = []
        size, resize = self.config.image_size, self.config.resize
        # Closed at once when something is wrong: its bar must not be drawn over what is said then.
        with closing(decoded(listing.paths, size, resize, title)) as results:
            for path, target, result in zip(listing.paths, listing.targets, results, strict=True):
                if isinstance(result, str):
                    broken.append(f"{path}: {result}")
                    if self.config.strict:
                        raise DataError(f"{broken[-1]} (--strict)")
                    continue
                is_new = self.twins.is_new_to(title, path, listing.labels[target], result.image)
                split = title if is_new else LEFT_OUT
                self.rows.append(Row(split, str(path), result.digest))
                if is_new:
                    self.writer.add(result.image.pixels)
                    kept.append(int(target))
        tell_unreadable(
            f"{len(broken)} of {len(listing.paths)} images of the {title} split are unreadable and "
            "left out",
            broken,
        )
        return np.array(kept, np.int64)


def tell_unreadable(title: str, broken: Sequence[str]) -> None:
    """Say which files could not be decoded, with the way out where a telephone has made them."""
    name_some(title, broken)
    if any(": HEIC " in line for line in broken):
        say(HEIC_ADVICE)


def _require_all(targets: NDArray[np.int64], listing: Listing, title: str) -> None:
    left = np.bincount(targets, minlength=len(listing.labels))
    if not left.all():
        label = listing.labels[int(np.argmin(left))]
        raise DataError(
            f"label {label!r} in {listing.folder} has no readable image in the {title} split "
            "(those that another split has are not counted)"
        )
