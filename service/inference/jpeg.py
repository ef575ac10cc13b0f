"""Plain JPEG files, decoded by libjpeg-turbo alone: Pillow's pixels at a tenth of the cost.

A plain JPEG is baseline, has all pixels in one scan, and has no segment before the pixels that
changes their orientation (EXIF) or colours (ICC, Adobe). Most JPEG files are plain. Pillow decodes
all others, and every file that libjpeg-turbo warns about, so that Pillow alone decides which files
are broken.
"""

from struct import Struct

import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

_SOF0, _SOS = 0xC0, 0xDA
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
