"""Damaged files: whatever happens to the bytes, an image comes out or an ImageError.

Much more of it by hand: ``LABELSERVE_FUZZ_EXAMPLES=20000 python -m pytest --timeout=0`` this file.
"""

import os
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from service.inference.errors import ImageError
from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import ImageLimits, decode_image
from tests.hostile_images import encode_exif
from tests.images import (
    ADOBE_RGB_TO_XYZ,
    encode,
    make_bmp,
    make_png,
    photograph,
    random_pixels,
    rgb_profile,
)

# The filters of pytest come before the one that imaging sets; production has only that one.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

EXAMPLES = int(os.environ.get("LABELSERVE_FUZZ_EXAMPLES", "20"))
LIMITS = ImageLimits(max_pixels=1_000_000, formats=READABLE_FORMATS)


def _seeds() -> dict[str, bytes]:
    rgb = photograph(1, 40, 56)
    small = rgb.resize((20, 14))
    grey, rgba = rgb.convert("L"), rgb.convert("RGBA")
    rgba.putalpha(grey)
    palette = rgb.quantize(16)
    frames = [small.rotate(angle) for angle in (90, 180)]
    pages = [frame.copy() for frame in frames]  # saving leaves settings in an image
    profile = rgb_profile(ADOBE_RGB_TO_XYZ, 2.2)
    exif = encode_exif({ExifTags.Base.Orientation: 6, ExifTags.Base.ImageDescription: "a hill"})
    deep = Image.fromarray(random_pixels(14, 40).view(np.uint16))
    key = [(b"tRNS", b"\0\3")]
    runs = b"\5\1\0\3\1\2\3\0\0\2\1\0\0\0" * 4 + b"\0\1"
    return {
        "jpeg": encode(rgb, "JPEG", exif=exif, icc_profile=profile),
        "jpeg progressive": encode(rgb, "JPEG", progressive=True, subsampling=0),
        "jpeg cmyk": encode(rgb.convert("CMYK"), "JPEG"),
        "jpeg large": encode(rgb.resize((448, 448)), "JPEG", quality=20),
        "mpo": encode(small, "MPO", save_all=True, append_images=frames),
        "png": encode(rgba, "PNG", exif=exif, icc_profile=profile),
        "png palette": encode(palette, "PNG", transparency=bytes(range(16))),
        "png grey 4 bits": make_png(4, 4, 4, 0, bytes(range(8)), chunks=key),
        "png grey 16 bits": encode(deep, "PNG"),
        "png animated": encode(small, "PNG", save_all=True, append_images=frames),
        "webp": encode(rgb, "WEBP", exif=exif, icc_profile=profile),
        "webp lossless": encode(rgba, "WEBP", lossless=True),
        "webp animated": encode(small, "WEBP", save_all=True, append_images=frames),
        "gif": encode(palette, "GIF", transparency=3, comment=b"a hill"),
        "gif animated": encode(small, "GIF", save_all=True, append_images=frames, disposal=2),
        "bmp": encode(small, "BMP"),
        "bmp run lengths": make_bmp(9, 4, 8, runs, palette=bytes(range(256)) * 4, compression=1),
        "tiff": encode(rgb, "TIFF", exif=exif, icc_profile=profile),
        "tiff lzw": encode(rgba, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
        "tiff jpeg": encode(rgb, "TIFF", compression="jpeg"),
        "tiff deflate 16 bits": encode(deep, "TIFF", compression="tiff_adobe_deflate"),
        "tiff fax": encode(grey.convert("1"), "TIFF", compression="group4"),
        "tiff pages": encode(small.copy(), "TIFF", save_all=True, append_images=pages),
        "avif": encode(rgba, "AVIF", exif=exif, icc_profile=profile),
        "avif animated": encode(small, "AVIF", save_all=True, append_images=frames),
        "jpeg 2000": encode(rgba, "JPEG2000"),
        "jpeg 2000 stream": encode(small, "JPEG2000", no_jp2=True),
        "jpeg 2000 16 bits": encode(deep, "JPEG2000"),
        "ppm": encode(small, "PPM"),
        "ppm text": b"P3 # a hill\n4 3 15\n" + b" ".join(b"%d" % (i % 16) for i in range(36)),
        "ppm odd depth": b"P5 6 6 300\n" + bytes(range(72)),
    }


SEEDS = _seeds()
Change = tuple[str, int, int, bytes]

WORDS = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1")


def changes() -> st.SearchStrategy[list[Change]]:
    """Up to eight: the kind, where, how far from there, and bytes."""
    where = st.one_of(st.integers(0, 255), st.integers(0, 20_000))
    content = st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(WORDS))
    kind = st.sampled_from(["set", "set", "set", "flip", "cut", "insert", "copy", "truncate"])
    change = st.tuples(kind, where, st.integers(1, 300), content)
    return st.lists(change, min_size=1, max_size=8)


def damaged(data: bytes, done: Sequence[Change]) -> bytes:
    content = bytearray(data)
    for kind, where, length, new in done:
        start = where % (len(content) + 1)
        if kind == "set":
            content[start : start + len(new)] = new
        elif kind == "flip" and start < len(content):
            content[start] ^= 1 << length % 8
        elif kind == "cut":
            del content[start : start + length]
        elif kind == "insert":
            content[start:start] = new * length
        elif kind == "copy":
            content[start:start] = content[length : 2 * length]
        elif kind == "truncate" and start > 16:
            del content[start:]
    return bytes(content)


def with_right_checksums(png: bytes) -> bytes:
    """Or every change of a PNG's header would end at the same check."""
    content, start = bytearray(png), 8
    while start + 12 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[start + 4 : end]))
        start = end + 4
    return bytes(content)


def assert_answered(data: bytes) -> None:
    try:
        pixels = decode_image(data, (6, 10), limits=LIMITS).pixels
    except ImageError:
        return
    assert pixels.shape == (6, 10, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_are_whole(name: str) -> None:
    assert decode_image(SEEDS[name], (6, 10), limits=LIMITS).pixels.shape == (6, 10, 3)


@pytest.mark.parametrize("name", SEEDS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="LABELSERVE_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(done=changes(), mend=st.booleans())
@example(done=[("truncate", 17, 1, b"\0")], mend=False)
def test_damaged(name: str, done: list[Change], *, mend: bool) -> None:
    data = damaged(SEEDS[name], done)
    assert_answered(with_right_checksums(data) if mend and name.startswith("png") else data)
