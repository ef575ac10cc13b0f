"""What libjpeg-turbo does without Pillow: decode plain JPEG files, and judge unended ones.

A plain JPEG is baseline, has all pixels in one scan, and has no segment before the pixels that
changes their orientation (EXIF) or colours (ICC, Adobe). Most JPEG files are plain: they get
Pillow's pixels at a tenth of the cost. Pillow decodes all others, and every file that libjpeg-turbo
warns about, so that Pillow decides which files are broken.

It cannot where a file has no end marker: it refuses that without saying whether pixels are missing.
Some cameras lose the marker, and Samsung's panoramas have a film in its place. libjpeg-turbo says
what it misses.
"""

import math
import re
from itertools import islice
from struct import Struct

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg, decode_jpeg_header

from service.inference.bounds import MAX_SEGMENTS, jpeg_segments

_SOF0, _SOS, _DRI, _EOI = 0xC0, 0xDA, 0xDD, 0xD9
# Frames of Huffman codes. An arithmetic decoder cannot tell that its data has ended.
_FRAMES = (0xC0, 0xC1, 0xC2)
_COEFFICIENTS = range(64)
_END = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SCAN_ENDS = 3  # bytes: the first and the last coefficient, and the bits that are there and to come
_FOUR_CHANNELS = ("CMYK", "YCCK")
# libjpeg's only warning about bytes that it did not need.
_UNUSED_BYTES = "extraneous bytes before marker 0xd9"
# Segments that change neither orientation nor colours: JFIF's APP0, tables, restart intervals,
# comments.
_NEUTRAL_SEGMENTS = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))
_SEGMENT = Struct(">BBH")  # 0xFF, marker, length
_FRAME = Struct(">BHHB")  # bits, height, width, components
_MOST_SEGMENTS = 40  # enough for four tables of each kind, each in its own segment, and comments


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a plain JPEG file, None for any other; the pixels are not read."""
    size, components, start = None, 0, 2
    last = len(data) - _SEGMENT.size - _FRAME.size
    for _ in range(_MOST_SEGMENTS):
        if start > last:
            return None
        fill, marker, length = _SEGMENT.unpack_from(data, start)
        if fill != 0xFF:
            return None
        if marker == _SOS:
            return size if data[start + _SEGMENT.size] == components else None
        if marker == _SOF0 and size is None:
            bits, height, width, components = _FRAME.unpack_from(data, start + _SEGMENT.size)
            if bits != 8 or components not in (1, 3) or not height or not width:
                return None
            size = width, height
        elif marker not in _NEUTRAL_SEGMENTS:
            return None
        start += 2 + length
    return None


def decode_plain(data: bytes, size: tuple[int, int], scale: int) -> NDArray[np.uint8] | None:
    """Pixels, uint8 [height, width, 3] RGB; None if the decoder warns or the size differs.

    Args:
        data: a plain JPEG file.
        size: its (width, height).
        scale: 1, 2, 4 or 8: what the decoder divides both by, rounding up.
    """
    width, height = (-(-side // scale) for side in size)
    try:
        pixels: NDArray[np.uint8] = decode_jpeg(data, min_height=height, min_width=width)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def with_end_marker(data: bytes) -> bytes | None:
    """A JPEG file with an end marker behind its picture, where it has none and all of it is there.

    None for a file that ends as it should, or that lacks pixels or scans (a progressive file that
    was cut between two scans has pixels everywhere, but coarse ones), or whose decoder would not
    notice.
    """
    end = _picture_end(data)
    if end is None or data.startswith(_END, end):
        return None
    # What was cut off is often filled up with zeros, and they can be read as pixels. A zero behind
    # 0xFF belongs to it.
    picture = data[:end].rstrip(b"\0")
    if picture.endswith(b"\xff"):
        picture = data[: min(len(picture) + 1, end)]
    ended = picture + _END
    try:
        channels = decode_jpeg_header(ended)[2]
        decode_jpeg(ended, "CMYK" if channels in _FOUR_CHANNELS else "RGB", min_factor=8)
    except ValueError as error:
        return ended if _UNUSED_BYTES in str(error) else None
    return ended


def _picture_end(data: bytes) -> int | None:
    """Where the scan that completes the picture ends: at a marker, or with the file."""
    frame = b""
    interval = 0
    missing: dict[int, set[int]] = {}  # by component: coefficients that have not all their bits
    for marker, start in islice(jpeg_segments(data), MAX_SEGMENTS):
        segment = data[start : start + int.from_bytes(data[start : start + 2], "big")]
        if marker in _FRAMES and not frame and len(segment) == 8 + 3 * sum(segment[7:8]):
            frame = segment
            missing = {number: set(_COEFFICIENTS) for number in frame[8::3]}
        elif marker == _DRI:
            interval = int.from_bytes(segment[2:], "big")
        elif marker == _SOS and len(segment) > _SCAN_ENDS:
            components = segment[3:-_SCAN_ENDS:2]
            first, last, bits = segment[-_SCAN_ENDS:]
            if not bits & 15:
                for number in components:
                    missing.get(number, set()).difference_update(range(first, last + 1))
            if missing and not any(missing.values()):
                restarts = (_blocks(frame, components) - 1) // interval if interval else 0
                return _scan_end(data, start + len(segment), restarts)
        elif marker == _EOI:
            break
    return None


def _blocks(frame: bytes, components: bytes) -> int:
    """How many blocks are counted between the restarts of a scan of some of a frame's components.

    The standard's minimum coded units: all that belongs together, or blocks of the only component.
    """
    height, width = (int.from_bytes(frame[place : place + 2], "big") for place in (3, 5))
    factors = {frame[place]: divmod(frame[place + 1], 16) for place in range(8, len(frame), 3)}
    across, down = factors.get(components[0], (1, 1)) if len(components) == 1 else (1, 1)
    widest = max(1, *(wide for wide, _ in factors.values()))
    highest = max(1, *(high for _, high in factors.values()))
    return math.ceil(width * across / (8 * widest)) * math.ceil(height * down / (8 * highest))


def _scan_end(data: bytes, position: int, restarts: int) -> int | None:
    """The first marker behind ``position`` and so many restarts, or the end of the file."""
    for _ in range(restarts):
        restart = _RESTART.search(data, position)
        if restart is None:
            return None
        position = restart.end()
    marker = _MARKER.search(data, position)
    return marker.start() if marker else len(data)
