"""Which images a run was trained on: a table in its run folder, for later measurements.

Images are known by the digest of their file's bytes: whatever the files are called or which folder
they are in then, and whichever version decodes them.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from training.atomic_files import write_whole
from training.errors import DataError, RunError

RECORD = "images.csv"
LEFT_OUT = "left out"  # in place of a split: the same image is in another one


class Row(NamedTuple):
    """An image: its split or LEFT_OUT, its file's path, and the digest of the file's bytes."""

    split: str
    file: str
    digest: str


def digest_of(content: bytes) -> str:
    """What an image file is known by: 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write(rows: Iterable[Row], run_folder: Path) -> None:
    """Keep the table in a run folder. Raises RunError."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(Row._fields)
    table.writerows(rows)
    path = run_folder / RECORD
    try:
        write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error


def used(run_folder: Path) -> frozenset[str] | None:
    """Digests of a run's images but for its test images; None where no table is kept.

    Raises DataError for a table that cannot be read.
    """
    path = run_folder / RECORD
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [Row(**row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return None
    except (OSError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}; remove it to go on without") from error
    return frozenset(row.digest for row in rows if row.split != "test")
