"""A PNG with a wrong checksum, from editors that change a chunk and leave its checksum as it was.

Ancillary chunks are left out wherever they stand, as by libpng; in critical ones, nothing may be
wrong.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.inference.errors import BrokenImage
from service.inference.imaging import decode_image
from tests.images import (
    ADOBE_RGB_TO_XYZ,
    Pixels,
    encode,
    make_png,
    photograph,
    png_chunk,
    rgb_profile,
)
from tests.server import Server, assert_problem
from tests.training.conftest import decoded_pixels

SIZE = (8, 12)
ROWS = np.asarray(photograph(2, 16, 24)).tobytes()


def orientation() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes()[6:]


TEXT = zlib.compress(b"x" * 10_000)
# Left in, most of them change the pixels.
ANCILLARY = {
    b"eXIf": orientation(),
    b"gAMA": struct.pack(">I", 45455),
    b"iCCP": b"a\0\0" + zlib.compress(rgb_profile(ADOBE_RGB_TO_XYZ, 1.8)),
    b"pHYs": bytes(9),
    b"tEXt": b"Comment\0text",
    b"tIME": bytes(7),
    b"tRNS": struct.pack(">HHH", *ROWS[:3]),
    b"zTXt": b"a\0\0" + TEXT,
    b"acTL": struct.pack(">II", 2, 0),
    b"teSt": b"unknown to all",
}


def png(
    before: list[tuple[bytes, bytes]] | None = None, behind: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    return make_png(24, 16, 8, 2, ROWS, chunks=before or (), last_chunks=behind or ())


def spoiled(data: bytes, name: bytes) -> bytes:
    """With another checksum in the last chunk of that name."""
    start = data.rindex(name)
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


def pixels(data: bytes) -> Pixels:
    return decode_image(data, SIZE).pixels


@pytest.mark.parametrize("name", ANCILLARY, ids=bytes.decode)
def test_an_ancillary_chunk_is_left_out(name: bytes) -> None:
    chunk = (name, ANCILLARY[name])
    plain = pixels(png())
    for data in (png([chunk]), png(behind=[chunk])):
        np.testing.assert_array_equal(pixels(spoiled(data, name)), plain)


def test_what_stands_behind_it_counts() -> None:
    """Pillow stops at a wrong one behind the pixels."""
    chunks = [(b"tEXt", b"Comment\0text"), (b"eXIf", orientation())]
    turned = pixels(png(behind=chunks))
    assert not np.array_equal(turned, pixels(png()))
    for data in (png(chunks), png(behind=chunks)):
        np.testing.assert_array_equal(pixels(spoiled(data, b"tEXt")), turned)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT", b"IEND"], ids=bytes.decode)
def test_a_critical_chunk_is_needed(name: bytes) -> None:
    data = make_png(4, 1, 8, 3, b"\0\1\2\0", chunks=[(b"PLTE", bytes(range(9)))])
    assert pixels(data).shape == (*SIZE, 3)
    with pytest.raises(BrokenImage, match=f"wrong checksum in {name.decode()}"):
        pixels(spoiled(data, name))


def test_one_of_many_chunks_of_pixels() -> None:
    data = png()
    content = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    parts = [png_chunk(b"IDAT", content[i : i + 50]) for i in range(0, len(content), 50)]
    head = data[: data.index(b"IDAT") - 4]
    end = png_chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels(head + b"".join(parts) + end), pixels(data))
    parts[1] = parts[1][:-4] + bytes(4)
    with pytest.raises(BrokenImage):
        pixels(head + b"".join(parts) + end)


def test_the_frames_of_an_animation_do_not_count() -> None:
    """The first one alone is read."""
    frames = [photograph(seed, 16, 24) for seed in (1, 2)]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    whole = pixels(data)
    for name in (b"fdAT", b"acTL"):
        np.testing.assert_array_equal(pixels(spoiled(data, name)), whole)


def test_training_reads_the_same(tmp_path: Path) -> None:
    data = png([(b"tEXt", b"Comment\0text")])
    paths = [tmp_path / "whole.png", tmp_path / "text.png", tmp_path / "pixels.png"]
    contents = (data, spoiled(data, b"tEXt"), spoiled(data, b"IDAT"))
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    whole, without_text, without_pixels = decoded_pixels(paths, SIZE)
    np.testing.assert_array_equal(without_text, whole)
    assert without_pixels == "the PNG image has a wrong checksum in IDAT"


def test_requests(server: Server) -> None:
    data = png([(b"gAMA", struct.pack(">I", 45455))])
    answer = server.post("/predict", data)
    assert answer.status == 200
    assert server.post("/predict", spoiled(data, b"gAMA")).body == answer.body
    assert_problem(server.post("/predict", spoiled(data, b"IDAT")), 422, "broken-image")
