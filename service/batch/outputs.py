"""Where rows go: standard output, a file, or a folder of Parquet files.

Parquet is a folder of parts, as Spark, pandas, Polars and DuckDB read one, because a Parquet file
that was not closed cannot be read: a kill costs the part that was open and no other.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from service.batch.errors import Refused
from service.batch.journal import replace_on_disk
from service.batch.parquet import schema

# A part has so many rows at most, or is closed after so long: what a kill can cost.
PART_ROWS = 1 << 20
PART_SECONDS = 300.0
# Rows that are held in memory.
_GROUP_ROWS = 1 << 17
_PARTS = "part-*.parquet"


class Output(Protocol):
    """Takes rows in order, and knows how much of them is on disk."""

    def write(self, rows: bytes) -> None:
        """Take rows that ``formats.encoder`` made. Raises OSError."""

    def settle(self, *, last: bool = False) -> int | None:
        """Bring all rows to disk, at the ``last`` in any case; its size then.

        None where that is better done later. Raises OSError.
        """

    def close(self) -> None:
        """Leave it as it is."""


class ReaderLeft(BrokenPipeError):
    """Whoever read standard output has seen enough (``| head``)."""


class StandardOutput:
    """Rows for a pipe, a terminal, or wherever it was redirected to."""

    def write(self, rows: bytes) -> None:
        """Rows are seen at once. Raises ReaderLeft, OSError."""
        try:
            sys.stdout.write(rows.decode())
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def settle(self, *, last: bool = False) -> int | None:  # noqa: ARG002
        """It cannot be gone on with."""
        return None

    def close(self) -> None:
        """It stays open."""


class FileOutput:
    """A file of CSV or JSON lines.

    Args:
        path: the file; what it has beyond ``size`` is cut off.
        size: bytes that stay, which it has (``require_rows``).

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: PTH123, SIM115
        self._file.truncate(size)
        self._file.seek(size)
        self._size = size

    def write(self, rows: bytes) -> None:
        """Raises OSError: a part of the rows may be written then."""
        left = memoryview(rows)
        while left:
            left = left[self._file.write(left) :]
        self._size += len(rows)

    def settle(self, *, last: bool = False) -> int:  # noqa: ARG002
        """Bytes."""
        os.fsync(self._file.fileno())
        return self._size

    def close(self) -> None:
        """What was written stays."""
        self._file.close()


class PartsOutput:
    """A folder of Parquet files: ``part-00000.parquet`` and so on.

    Args:
        folder: it is made if it is missing.
        size: parts that stay, which it has (``require_rows``); all others are removed.
        has_familiarity: whether the table has that column.

    Raises:
        OSError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, size: int, *, has_familiarity: bool) -> None:
        self._folder = folder
        self._size = size
        self._schema = schema(has_familiarity=has_familiarity)
        self._draft = folder / ".part.draft"  # hidden: readers of the folder pass it over
        self._writer: Any = None
        self._held: list[Any] = []
        self._held_rows = self._rows = 0
        self._since = time.monotonic()
        folder.mkdir(exist_ok=True)
        kept = {_part_name(number) for number in range(size)}
        for part in folder.glob(_PARTS):
            if part.name not in kept:
                part.unlink()
        self._draft.unlink(missing_ok=True)

    def write(self, rows: bytes) -> None:
        """Raises OSError."""
        import pyarrow as pa

        batch = pa.ipc.read_record_batch(pa.py_buffer(rows), self._schema)
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows >= _GROUP_ROWS:
            self._write_group()

    def settle(self, *, last: bool = False) -> int | None:
        """Parts; None if the one that is open should go on."""
        rows = self._rows + self._held_rows
        is_due = rows >= PART_ROWS or time.monotonic() - self._since > PART_SECONDS
        if not (last or is_due):
            return None
        # A reader of the folder learns the columns even where there is no row.
        if rows or (last and not self._size):
            self._write_group()
            self._finish_part()
        self._since = time.monotonic()
        return self._size

    def close(self) -> None:
        """The part that is open is given up."""
        self._held.clear()
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            self._writer = None
        with suppress(OSError):
            self._draft.unlink(missing_ok=True)

    def _write_group(self) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        if self._writer is None:
            self._writer = ParquetWriter(self._draft, self._schema)
        self._writer.write_table(pa.Table.from_batches(self._held, self._schema))
        self._rows += self._held_rows
        self._held, self._held_rows = [], 0

    def _finish_part(self) -> None:
        self._writer.close()
        self._writer = None
        replace_on_disk(self._draft, self._folder / _part_name(self._size))
        self._size += 1
        self._rows = 0


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def require_rows(path: Path, size: int) -> None:
    """See that an output has all that its journal speaks of.

    Args:
        path: the output.
        size: as of ``Output.settle``: bytes of a file, parts of a folder.

    Raises:
        Refused: it has less.
    """
    if path.is_dir():
        is_whole = all((path / _part_name(number)).exists() for number in range(size))
    else:
        is_whole = (path.stat().st_size if path.exists() else 0) >= size
    if not is_whole:
        raise Refused(
            f"{path} has lost rows that its journal speaks of, so --resume cannot go on;"
            " --overwrite begins anew"
        )


def remove(path: Path) -> None:
    """Remove an output. Of a folder, only the parts: it and other files stay.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir():
        for part in path.glob(_PARTS):
            part.unlink()
    else:
        path.unlink(missing_ok=True)
