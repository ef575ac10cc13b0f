"""From a listing to an output: the loop of ``python -m service predict``."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice

from msgspec.structs import replace

from service.batch.errors import Refused, Stopped
from service.batch.items import Item, Listed
from service.batch.journal import Journal, Names, Progress
from service.batch.outputs import Output, ReaderLeft
from service.batch.processes import Done
from service.batch.progress import Display

# How often what is done is brought to disk.
SETTLE_SECONDS = 5.0
# A piece of work: so many images, or fewer that take about so long or have so many bytes.
CHUNK_IMAGES = 64
_CHUNK_SECONDS = 0.5
_CHUNK_BYTES = 1 << 22


class Kept:
    """Where a run leaves what it does.

    Args:
        output: takes the rows.
        name: of the output, for messages.
        progress: what it has already.
        journal: of an output that can be gone on with.
    """

    def __init__(
        self, output: Output, name: str, progress: Progress, journal: Journal | None = None
    ) -> None:
        self._output = output
        self._name = name
        self.progress = progress
        self._journal = journal

    def write(self, rows: bytes) -> None:
        """Take rows. Raises Stopped, and ReaderLeft if nobody reads them."""
        with self._writing():
            self._output.write(rows)

    def settle(self, progress: Progress) -> None:
        """Bring to disk, if it is time, and to the journal what the output has. Raises Stopped."""
        self.progress = progress
        with self._writing():
            size = self._output.settle(last=progress.complete)
            if self._journal is not None and size is not None:
                self._journal.write(replace(progress, size=size))

    def close(self) -> None:
        """Leave it as it is."""
        self._output.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except ReaderLeft:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise Stopped(f"{self._name} cannot be written: {reason}") from error


def without_done(mine: Iterator[Listed], progress: Progress) -> Names:
    """Pass over the images that an earlier run has answered; the digest of their names.

    Raises:
        Refused: they are not the same images.
    """
    names = Names()
    for one in islice(mine, progress.images):
        names.add([one.name])
    if progress.images and str(names) != progress.names:
        raise Refused(
            f"the first {progress.images} images are not those that the output has rows of, so"
            " --resume cannot go on; --overwrite begins anew"
        )
    return names


def chunk_images(seconds_per_image: float) -> int:
    """How many images of a model's one piece of work has."""
    return max(1, min(CHUNK_IMAGES, int(_CHUNK_SECONDS / max(seconds_per_image, 1e-6))))


def chunks(listed: Iterable[Listed], images: int) -> Iterator[Sequence[Item]]:
    """Pieces of work: the bytes of members of archives are read here, those of files are not."""
    chunk: list[Item] = []
    size = 0
    for name, load in listed:
        content = None if load is None else load()
        chunk.append(Item(name, content))
        size += len(content) if isinstance(content, bytes) else 0
        if len(chunk) >= images or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def run(done: Generator[Done], kept: Kept, names: Names, display: Display) -> None:
    """Write what is done, as it comes.

    Args:
        done: in order.
        kept: where to.
        names: the digest of the names of what it has already.
        display: shows progress.

    Raises:
        Stopped: the output cannot be written.
        ReaderLeft: nobody reads it.
        BrokenProcessPool: as of ``processes.in_order``.
    """
    progress, settled = kept.progress, time.monotonic()
    with closing(done):
        for some, piece in done:
            kept.write(piece.rows)
            names.add(some)
            images, failed = progress.images + piece.images, progress.failed + piece.failed
            progress = Progress(images, failed)
            display.add(piece.images)
            if time.monotonic() - settled > SETTLE_SECONDS:
                kept.settle(replace(progress, names=str(names)))
                settled = time.monotonic()
    kept.settle(replace(progress, names=str(names), complete=True))
