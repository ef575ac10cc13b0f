"""PNG files with wrong checksums: chunks that a reader may ignore are left out, others are needed.

Pillow refuses any wrong checksum before the pixels, stops reading at one behind them, and does not
look at those of the pixels.
"""

from struct import Struct
from zlib import crc32

from service.inference.bounds import BYTES_PER_READ, FREE_READS
from service.inference.errors import BrokenImage

_SIGNATURE_BYTES = 8
_HEAD = Struct(">I4s")  # length of the content, name
_CHECKSUM = Struct(">I")
_READS_PER_CHUNK = 2
_LAST = (b"IEND", b"fdAT")  # no chunk is read behind the pixels of an animation's next frame
_ANCILLARY = 0x20  # the bit that makes the first letter of a name a small one


def without_wrong_chunks(data: bytes) -> bytes:
    """The file without ancillary chunks whose checksum is wrong; mostly the file itself.

    What cannot be walked over (a chunk that is cut off) is left as it is.

    Raises:
        BrokenImage: a critical chunk's checksum is wrong, or there are too many chunks.
    """
    view = memoryview(data)
    kept: list[memoryview] = []
    position = begun = _SIGNATURE_BYTES
    for _ in range((FREE_READS + len(data) // BYTES_PER_READ) // _READS_PER_CHUNK):
        if position + _HEAD.size > len(data):
            break
        length, name = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + length
        if not name.isalpha() or end + _CHECKSUM.size > len(data):
            break
        if crc32(view[position + 4 : end]) != _CHECKSUM.unpack_from(data, end)[0]:
            if not name[0] & _ANCILLARY:
                raise BrokenImage(f"the PNG image has a wrong checksum in {name.decode()}")
            kept.append(view[begun:position])
            begun = end + _CHECKSUM.size
        position = end + _CHECKSUM.size
        if name in _LAST:
            break
    else:
        raise BrokenImage("the image is made of too many small parts")
    return b"".join((data[:_SIGNATURE_BYTES], *kept, view[begun:])) if kept else data
