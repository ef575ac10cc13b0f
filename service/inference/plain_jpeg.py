"""Plain JPEGs by libjpeg-turbo alone: the pixels that Pillow gives, at a tenth of what it costs.

Plain is what most of them are: baseline, all pixels in one scan, and nothing in front of the pixels
that says how they are to be turned (EXIF) or coloured (ICC, Adobe). Everything else is Pillow's;
and so is whatever libjpeg-turbo has the least to say against, so that there is one judge of what is
broken.
"""

from struct import Struct

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

_SOF0, _SOS = 0xC0, 0xDA
# What else may stand in front of the pixels: JFIF's APP0, tables, restart intervals, comments.
_WITHOUT_A_SAY = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))
_SEGMENT = Struct(">BBH")  # 0xFF, marker, length
_FRAME = Struct(">BHHB")  # bits, height, width, components
_MOST_SEGMENTS = 40  # in a file with four tables of each kind, one a segment, and some comments


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a plain JPEG file, None of any other; the pixels are not looked at."""
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
