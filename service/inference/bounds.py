"""Bounds on the work that reading a file takes, beyond its number of pixels.

Pillow walks the parts of a file (JPEG segments, PNG chunks, GIF sub-blocks, TIFF tags) in Python. A
file of 20 MB that consists of tiny parts would hold the interpreter's lock for 10 seconds. Repeated
EXIF is joined in quadratic time, each repeated ICC profile is unpacked again, and each scan of a
progressive JPEG is a pass over all of its pixels. Files from cameras and editors stay far below
these bounds.
"""

import io
import re
from collections.abc import Iterator
from typing import Literal

from service.inference.errors import BrokenImage

# Reads that a file may take: a fixed number, and one for every BYTES_PER_READ of its bytes. The
# smallest parts that real files have in numbers are XMP's sub-blocks in GIF: 80 bytes, 2 reads.
FREE_READS = 20_000
BYTES_PER_READ = 32
# A file of at most this many bytes holds too few parts, of any kind, to take long.
SMALL_FILE = 16 * 1024
# An ICC profile takes up to 255 segments of a JPEG, a scan some 2.
MAX_SEGMENTS = 10_000
# Real files have EXIF in JPEG and ICC in PNG once.
MAX_REPEATS = 100
# Each strip or tile of a TIFF becomes a Python object.
MAX_TIFF_VALUES = 100_000

_SEGMENT = re.compile(rb"\xff[^\x00\xff]")
_SEGMENT_AMONG_PIXELS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_BASELINE = (0xC0, 0xC1)

# BYTE, ASCII, SBYTE and UNDEFINED: kept as one object, however long.
_TIFF_BYTES = (1, 2, 6, 7)


class BoundedReader(io.BytesIO):
    """A file in memory with a bounded number of reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = FREE_READS + len(data) // BYTES_PER_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
            BrokenImage: too many reads.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise BrokenImage("the image is made of too many small parts")
        return super().read(size)


def check_parts(data: bytes, image_format: str) -> None:
    """Count the parts that cost more than one read each.

    Raises:
        BrokenImage: more of them than any real file has.
    """
    if len(data) <= SMALL_FILE:
        return
    if image_format == "JPEG":
        many = _many_segments(data)
    elif image_format == "PNG":
        many = data.count(b"iCCP") > MAX_REPEATS
    elif image_format == "TIFF":
        many = _tiff_values(data) > MAX_TIFF_VALUES
    else:
        return
    if many:
        raise BrokenImage(f"the {image_format} image has too many parts of one kind")


def count_jpeg_scans(data: bytes) -> int:
    """An upper bound on the passes over the pixels that the first image of a JPEG file takes."""
    if is_decoded_by_rows(data):
        return 1
    scans = 0
    for segments, (marker, _) in enumerate(jpeg_segments(data)):
        if segments > MAX_SEGMENTS:
            return segments
        scans += marker == _SOS
        if marker == _EOI and scans:
            break
    return scans


def is_decoded_by_rows(data: bytes) -> bool:
    """Whether a JPEG is baseline with everything in its first scan, so that no other is read.

    The decoder keeps the coefficients of every other JPEG, at full size, whatever it is scaled to.
    """
    components = b""
    for segments, (marker, start) in enumerate(jpeg_segments(data)):
        if marker in _BASELINE:
            components = data[start + 7 : start + 8]
        elif marker == _SOS:
            return components not in (b"", b"\0") and data[start + 2 : start + 3] == components
        if segments > MAX_SEGMENTS:
            break
    return False


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """A JPEG's markers but for restarts, each with the position of its segment's length."""
    position, pattern = 2, _SEGMENT
    while match := pattern.search(data, position):
        marker, position = data[match.end() - 1], match.end()
        yield marker, position
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
        if marker == _SOS:
            pattern = _SEGMENT_AMONG_PIXELS


def _many_segments(data: bytes) -> bool:
    """Whether a JPEG has too many segments, or too many of EXIF, before its pixels."""
    exif = 0
    for segments, (marker, start) in enumerate(jpeg_segments(data)):
        exif += marker == _APP1 and data.startswith(b"Exif\0\0", start + 2)
        if segments > MAX_SEGMENTS or exif > MAX_REPEATS:
            return True
        if marker == _SOS:
            break
    return False


def _tiff_values(data: bytes) -> int:
    """How many numbers the first image's tags announce: mostly positions of strips and tiles."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    count_length, entry_length, offset_length = (8, 20, 8) if b"+" in data[2:4] else (2, 12, 4)

    def number(start: int, length: int) -> int:
        return int.from_bytes(data[start : start + length], order)

    directory = number(offset_length, offset_length)
    start = directory + count_length
    end = min(start + number(directory, count_length) * entry_length, len(data))
    values = 0
    for entry in range(start, end, entry_length):
        if number(entry + 2, 2) not in _TIFF_BYTES:
            values += number(entry + 4, offset_length)
        if values > MAX_TIFF_VALUES:
            break
    return values
