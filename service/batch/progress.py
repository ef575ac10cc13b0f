"""How far a run has come, for whoever waits: a bar on a terminal, else a line each minute."""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from service.batch.errors import BatchError
from service.batch.listing import STANDARD_INPUT, Listing
from service.batch.sharding import Shard

LINE_SECONDS = 60.0
_LINE = "{n_fmt} of {total_fmt} images, {rate_fmt}, {remaining} left"


def say(line: str) -> None:
    """A line on standard error; that nobody reads it changes nothing."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")


class Total:
    """How many images there will be, counted in a thread while the first are answered.

    Args:
        listing: of the same sources; it is not touched.
        shard: of which images.
    """

    def __init__(self, listing: Listing, shard: Shard) -> None:
        self._listing = listing
        self._again = Listing(listing.sources, listing.lists, reads_tars=False)
        self._shard = shard
        self._counted: int | None = None
        # Names on standard input, or in a pipe, can be read once.
        if STANDARD_INPUT not in listing.sources and all(
            Path(path).is_file() for path in listing.lists
        ):
            threading.Thread(target=self._count, name="count", daemon=True).start()

    def _count(self) -> None:
        with suppress(BatchError):  # which ends the command, too, when it comes there
            self._counted = sum(self._shard.has(one.name) for one in self._again)

    def expected(self) -> int | None:
        """All images, if that is known; those of tars by how far they were read so far."""
        if self._counted is None:
            return None
        tar_bytes = self._again.archives.tar_bytes
        if not tar_bytes:
            return self._counted
        read = self._listing.archives.tar_bytes
        if not read:
            return None
        members = self._listing.archives.tar_members / self._shard.parts
        return self._counted + round(members * tar_bytes / read)


class Display:
    """Shows progress on standard error.

    Args:
        total: what there will be.
        done: images that an earlier run has answered.
    """

    def __init__(self, total: Total, done: int) -> None:
        self._total = total
        self._before = done
        self._images = done
        self._begun = self._shown = time.monotonic()
        self._bar = tqdm(
            initial=done,
            unit="image",
            nrows=24,  # not asked of the terminal: one that says 0 would get no bar
            disable=not sys.stderr.isatty(),
        )

    def add(self, images: int) -> None:
        """More images have their rows."""
        self._images += images
        if not self._bar.disable:
            self._bar.total = self._total.expected()
            self._bar.update(images)
        elif time.monotonic() - self._shown > LINE_SECONDS:
            self._shown = time.monotonic()
            say(self._line(self._shown - self._begun))

    def close(self) -> None:
        """Leave what was shown."""
        self._bar.close()

    def _line(self, seconds: float) -> str:
        line: str = tqdm.format_meter(
            self._images,
            self._total.expected(),
            seconds,
            unit=" images",
            bar_format=_LINE,
            initial=self._before,
        )
        return line
