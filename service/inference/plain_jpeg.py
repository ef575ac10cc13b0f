"""Plain JPEGs by libjpeg-turbo alone: the pixels that Pillow gives, at a tenth of what it costs.

Plain is what most of them are: baseline, all pixels in one scan, and no marker of Adobe's that says
how they are coded. Everything else is Pillow's; and so is whatever libjpeg-turbo has the least to
say against, so that there is one judge of what is broken. How pixels are to be turned (EXIF) and
coloured (ICC) once they are decoded is for Pillow to read, too.
"""

from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

_SOF0, _SOS = 0xC0, 0xDA
# What else may stand in front of the pixels: JFIF's APP0, tables, restart intervals, comments.
_WITHOUT_A_SAY = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))
# What applications tell of decoded pixels: EXIF, ICC and others, all but Adobe's APP14.
_TELLING = frozenset((*range(0xE1, 0xEE), 0xEF))
_SEGMENT = Struct(">BBH")  # 0xFF, marker, length
_FRAME = Struct(">BHHB")  # bits, height, width, components
_MOST_SEGMENTS = 40  # in a file with four tables of each kind, one a segment, and some comments


class Frame(NamedTuple):
    """A plain JPEG's (width, height), and whether something is told of its pixels."""

    size: tuple[int, int]
    told: bool


def plain_frame(data: bytes) -> Frame | None:
    """The frame of a plain JPEG file, None of any other; the pixels are not looked at."""
    size, told, components, start = None, False, 0, 2
    last = len(data) - _SEGMENT.size - _FRAME.size
    for _ in range(_MOST_SEGMENTS):
        if start > last:
            return None
        fill, marker, length = _SEGMENT.unpack_from(data, start)
        if fill != 0xFF:
            return None
        if marker == _SOS:
            whole = size is not None and data[start + _SEGMENT.size] == components
            return Frame(size, told) if size is not None and whole else None
        if marker == _SOF0 and size is None:
            bits, height, width, components = _FRAME.unpack_from(data, start + _SEGMENT.size)
            if bits != 8 or components not in (1, 3) or not height or not width:
                return None
            size = width, height
        elif marker in _TELLING:
            told = True
        elif marker not in _WITHOUT_A_SAY:
            return None
        start += 2 + length
    return None


def decode_plain(data: bytes, size: tuple[int, int], scale: int) -> NDArray[np.uint8] | None:
    """Pixels, uint8 [height, width, 3] RGB; None where there is anything to be said against them.

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
