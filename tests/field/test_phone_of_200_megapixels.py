"""Photographs of phones with 64 to 200 megapixels: the bound is on what their decoder makes.

A baseline JPEG is scaled while it is decoded, row by row, so that a photograph of 200 megapixels
takes the memory of one of 3. A progressive one is held whole.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.inference.errors import TooManyPixels
from service.inference.imaging import ImageLimits, decode_image
from tests.images import encode, photograph, tall_jpeg
from tests.server import ROOT, Server, assert_problem
from tests.training.conftest import decoded_pixels

SIZE = (32, 32)
WIDTH, HEIGHT, STRIP = 16_384, 12_288, 128
MEGAPIXELS_OF_12 = 120_000_000  # bytes of memory: 12 megapixels at 10 bytes each


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


def ramp() -> Image.Image:
    """Darker on the left, so that a turn is seen, and of few bytes."""
    levels = np.linspace(0, 255, WIDTH).astype(np.uint8)
    return Image.fromarray(np.tile(levels[None, :, None], (STRIP, 1, 3)))


# Decoded by libjpeg-turbo alone, and by Pillow.
PHOTOGRAPHS = {
    "plain": lambda: tall_jpeg(ramp(), HEIGHT // STRIP),
    "turned": lambda: tall_jpeg(ramp(), HEIGHT // STRIP, exif=exif(6)),
    "4:4:4": lambda: tall_jpeg(ramp(), HEIGHT // STRIP, exif=exif(1), subsampling=0),
}


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_it_is_read(kind: str) -> None:
    image = decode_image(PHOTOGRAPHS[kind](), SIZE)
    assert image.source_pixels == WIDTH * HEIGHT > 200_000_000
    means = image.pixels.mean(axis=(1, 2) if kind == "turned" else (0, 2))
    np.testing.assert_allclose(means, np.linspace(4, 251, 32), atol=1)


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_its_memory_is_that_of_a_small_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(PHOTOGRAPHS[kind]())
    program = """
import sys
from pathlib import Path
from service.inference.imaging import decode_image
from tests.images import encode, photograph

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

data = Path(sys.argv[1]).read_bytes()
for options in ({}, {"progressive": True}):
    decode_image(encode(photograph(1, 48, 64), "JPEG", **options), (32, 32))
before = peak()
decode_image(data, (32, 32))
print(peak() - before)
"""
    command = [sys.executable, "-c", program, str(path)]
    taken = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert int(taken.stdout) < MEGAPIXELS_OF_12


def test_the_bound_is_on_what_is_decoded() -> None:
    """Of a photograph of 1024x1024, what a model of 16x16 needs is 128x128 at the least."""
    for options in ({}, {"exif": exif(6)}):
        data = encode(photograph(1, 1024, 1024), "JPEG", **options)
        assert decode_image(data, (16, 16), limits=ImageLimits(max_pixels=128 * 128))
        with pytest.raises(TooManyPixels, match="is decoded to 128x128 = 16384 pixels, 16383 are"):
            decode_image(data, (16, 16), limits=ImageLimits(max_pixels=128 * 128 - 1))
        # For a larger model it is scaled less.
        with pytest.raises(TooManyPixels, match="is decoded to 512x512 = 262144 pixels"):
            decode_image(data, (64, 64), limits=ImageLimits(max_pixels=128 * 128))


def test_small_limits_leave_it_to_the_decoder_too() -> None:
    """A machine with little memory has them; a sixty-fourth is the most that a decoder leaves."""
    data = tall_jpeg(ramp(), HEIGHT // STRIP, exif=exif(1))
    decoded_pixels = WIDTH * HEIGHT // 64
    assert decode_image(data, SIZE, limits=ImageLimits(max_pixels=decoded_pixels))
    with pytest.raises(TooManyPixels, match="is decoded to 2048x1536"):
        decode_image(data, SIZE, limits=ImageLimits(max_pixels=decoded_pixels - 1))


@pytest.mark.parametrize(
    ("image_format", "options"), [("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {})]
)
def test_what_is_held_whole_is_bound_whole(image_format: str, options: dict[str, bool]) -> None:
    data = encode(photograph(1, 1024, 1024), image_format, **options)
    with pytest.raises(TooManyPixels, match="has 1024x1024 = 1048576 pixels, 1048575 are"):
        decode_image(data, (16, 16), limits=ImageLimits(max_pixels=1024 * 1024 - 1))


def test_the_time_is_bounded() -> None:
    data = tall_jpeg(ramp(), 511)
    with pytest.raises(TooManyPixels, match="has 16384x65408 = 1071644672 pixels, 1000000000 are"):
        decode_image(data, SIZE)


def test_training_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "photograph.jpg"
    data = tall_jpeg(ramp(), 128, exif=exif(8))  # 268 megapixels; 250 are training's bound
    path.write_bytes(data)
    (pixels,) = decoded_pixels([path], SIZE)
    np.testing.assert_array_equal(pixels, decode_image(data, SIZE).pixels)


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_requests(server: Server, kind: str) -> None:
    reply = server.post("/predict", PHOTOGRAPHS[kind]())
    assert reply.status == 200, reply.body
    assert reply.json()["predictions"]


def test_bytes_are_bounded_as_before(server: Server) -> None:
    data = PHOTOGRAPHS["plain"]()
    filled = data + bytes(20_000_001 - len(data))
    assert_problem(server.post("/predict", filled), 413, "body-too-large")
