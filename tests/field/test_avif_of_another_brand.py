"""AVIF whose major brand is the container's (mif1, msf1), as ImageMagick and others write it.

The compatible brands say what is in it; a photograph of an iPhone is HEIC all the same.
"""

import re

import numpy as np
import pytest

from service.inference.errors import UnsupportedFormat
from service.inference.formats import READABLE_FORMATS, detect_format
from service.inference.imaging import ImageLimits, decode_image
from tests.images import encode, photograph
from tests.server import Server, assert_problem

SIZE = (8, 12)
LIMITS = ImageLimits(formats=READABLE_FORMATS)
PHOTOGRAPH = photograph(1, 48, 64)
AVIF = encode(PHOTOGRAPH, "AVIF")


def of_brands(major: bytes, *compatible: bytes, avif: bytes = AVIF) -> bytes:
    """The AVIF with other brands; what its other boxes point at is where it was."""
    end = int.from_bytes(avif[:4], "big")
    room = end - 16
    brands = b"".join(compatible)
    assert len(brands) <= room
    box = end.to_bytes(4, "big") + b"ftyp" + major + bytes(4) + brands.ljust(room, b"\0")
    return box + avif[end:]


@pytest.mark.parametrize(
    "brands",
    [
        (b"mif1", b"avif"),
        (b"mif1", b"mif1", b"miaf", b"avif"),
        (b"msf1", b"avif"),
        (b"miaf", b"avif"),
        (b"MA1B", b"avif", b"mif1"),
        (b"avif",),
        (b"avif", b"heic"),
    ],
    ids=lambda brands: b" ".join(brands).decode(),
)
def test_avif(brands: tuple[bytes, ...]) -> None:
    data = of_brands(*brands)
    assert detect_format(data) == "AVIF"
    expected = decode_image(AVIF, SIZE, limits=LIMITS).pixels
    np.testing.assert_array_equal(decode_image(data, SIZE, limits=LIMITS).pixels, expected)


def test_a_film() -> None:
    film = encode(PHOTOGRAPH, "AVIF", save_all=True, append_images=[photograph(2, 48, 64)])
    expected = decode_image(film, SIZE, limits=LIMITS).pixels
    data = of_brands(b"msf1", b"avis", avif=film)
    np.testing.assert_array_equal(decode_image(data, SIZE, limits=LIMITS).pixels, expected)


def test_a_long_list_of_brands() -> None:
    brands = b"mif1" + b"1pic" * 30 + b"avif"
    head = (len(brands) + 12).to_bytes(4, "big") + b"ftyp" + brands[:4] + bytes(4) + brands[4:]
    assert detect_format(head) == "AVIF"


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ((b"heic", b"mif1", b"heic"), "HEIC"),
        ((b"mif1", b"mif1", b"heic"), "HEIC"),
        ((b"msf1", b"hevc"), "HEIC"),
        ((b"heic", b"avif"), "HEIC"),
        ((b"mif1", b"jpeg"), "HEIF"),
        ((b"mif1",), "HEIF"),
        ((b"isom", b"mp42"), None),
        ((b"qt  ",), None),
    ],
    ids=str,
)
def test_others(brands: tuple[bytes, ...], expected: str | None) -> None:
    data = of_brands(*brands)
    assert detect_format(data) == expected
    with pytest.raises(UnsupportedFormat, match=expected or "a video"):
        decode_image(data, SIZE, limits=LIMITS)


def test_brands_end_with_their_box() -> None:
    box = (20).to_bytes(4, "big") + b"ftypmif1" + bytes(4) + b"heic"
    assert detect_format(box + b"avif" * 9) == "HEIC"


def test_requests(server: Server) -> None:
    """AVIF is off by default, and is called by its name."""
    problem = assert_problem(
        server.post("/predict", of_brands(b"mif1", b"avif")), 415, "unsupported-format"
    )
    assert re.match("AVIF is not read here", problem["detail"])
