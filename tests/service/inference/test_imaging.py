"""decode_image: bytes of every kind against pixels computed by arithmetic."""

import io
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from service.inference.contract import ResizeRule
from service.inference.errors import BrokenImage, EmptyImage, TooManyPixels, UnsupportedFormat
from service.inference.formats import READABLE_FORMATS, detect_format
from service.inference.imaging import ImageLimits, decode_image
from tests.images import (
    ADOBE_RGB_TO_XYZ,
    D50,
    Pixels,
    cmyk_profile,
    encode,
    grey_profile,
    make_bmp,
    make_png,
    make_tiff,
    photograph,
    random_pixels,
    rgb_profile,
    tiff_tags,
    xyz_to_srgb,
)

# The filters of pytest come before the one that imaging sets; production has only that one.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

EVERYTHING = ImageLimits(formats=READABLE_FORMATS)
WIDTH, HEIGHT = 6, 4


def decoded(
    data: bytes, size: tuple[int, int] = (HEIGHT, WIDTH), resize: ResizeRule = "stretch"
) -> NDArray[np.int64]:
    """Decoded pixels as wide numbers, so that differences of them do not wrap around."""
    image = decode_image(data, size, resize, EVERYTHING)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (*size, 3)
    return image.pixels.astype(np.int64)


def assert_close(found: NDArray[np.int64], expected: NDArray[Any], tolerance: float) -> None:
    difference = np.abs(found - expected.astype(np.float64)).max()
    assert difference <= tolerance, f"{difference} > {tolerance}\n{found}\n{expected}"


def grey_as_rgb(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=2)


def over_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.float64]:
    """Arithmetic, unrounded: colour [..., 3] and alpha [...], both 0 to 255."""
    share = alpha[..., None] / 255
    return np.asarray(colour * share + 255 * (1 - share))


def plain_cmyk(cmyk: NDArray[Any]) -> NDArray[np.float64]:
    """Without a profile: each ink, and black, take their share of the light away."""
    light = 255 - cmyk.astype(np.float64)
    return np.asarray(light[..., :3] * light[..., 3:] / 255)


def flat(colour: tuple[int, ...], mode: str) -> Image.Image:
    """One colour over several whole JPEG blocks, which survives compression."""
    return Image.new(mode, (32, 32), colour)


RGB = random_pixels(HEIGHT, WIDTH, 3)
RGBA = random_pixels(HEIGHT, WIDTH, 4, seed=1)
GREY = random_pixels(HEIGHT, WIDTH, seed=2)
GREY_16 = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
INDICES = random_pixels(HEIGHT, WIDTH, seed=4) % 16
PALETTE = random_pixels(16, 3, seed=5)
PALETTE_ALPHA = random_pixels(16, seed=6)


def packed(rows: NDArray[Any], bits: int) -> bytes:
    """Rows of values below 2**bits, packed as PNG, BMP and TIFF do, padded to whole bytes."""
    expanded = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(
        len(rows), -1
    )
    return np.packbits(expanded, axis=1).tobytes()


# PNG


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_png_of_any_depth(bits: int) -> None:
    values = GREY >> (8 - bits)
    data = make_png(WIDTH, HEIGHT, bits, 0, packed(values, bits))
    assert_close(decoded(data), grey_as_rgb(values * (255 // (2**bits - 1))), 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_png_with_a_transparent_value(bits: int) -> None:
    values = GREY >> (8 - bits)
    key = int(values[1, 2])
    data = make_png(
        WIDTH, HEIGHT, bits, 0, packed(values, bits), chunks=[(b"tRNS", struct.pack(">H", key))]
    )
    expected = np.where(values == key, 255, values * (255 // (2**bits - 1)))
    assert (values != key).any()
    assert_close(decoded(data), grey_as_rgb(expected), 0)


def test_16_bit_grey_png_is_scaled_not_clipped() -> None:
    data = make_png(WIDTH, HEIGHT, 16, 0, GREY_16.astype(">u2").tobytes())
    found = decoded(data)
    assert_close(found, grey_as_rgb(GREY_16 / 257), 0.5)
    assert len(np.unique(found)) > 15  # clipped at 255 all but a few would be white


def test_16_bit_grey_png_with_a_transparent_value() -> None:
    # One below the transparent value is opaque, though 8 bits do not tell them apart.
    values = GREY_16.copy()
    values[0] = 20_000, 20_001, 20_000, 19_999, 0, 65_535
    data = make_png(
        WIDTH,
        HEIGHT,
        16,
        0,
        values.astype(">u2").tobytes(),
        chunks=[(b"tRNS", struct.pack(">H", 20_000))],
    )
    expected = np.where(values == 20_000, 255, values / 257)
    assert_close(decoded(data), grey_as_rgb(expected), 0.5)


def test_grey_and_alpha_png() -> None:
    grey_alpha = np.dstack([GREY, RGBA[..., 3]])
    data = make_png(WIDTH, HEIGHT, 8, 4, grey_alpha.tobytes())
    assert_close(decoded(data), over_white(grey_as_rgb(GREY), RGBA[..., 3]), 1)


def test_16_bit_grey_and_alpha_png() -> None:
    grey_alpha = np.dstack([GREY_16, GREY_16[::-1]])
    data = make_png(WIDTH, HEIGHT, 16, 4, grey_alpha.astype(">u2").tobytes())
    assert_close(decoded(data), over_white(grey_as_rgb(GREY_16 / 257), GREY_16[::-1] / 257), 2)


def test_rgb_png() -> None:
    assert_close(decoded(make_png(WIDTH, HEIGHT, 8, 2, RGB.tobytes())), RGB, 0)


def test_interlaced_png() -> None:
    # 8 steps of one row each: the seven passes of a 1x8 image are written by hand.
    column = random_pixels(8, seed=9)
    order = [0, 4, 2, 6, 1, 3, 5, 7]
    data = make_png(1, 8, 8, 0, column[order].tobytes())
    header = bytearray(data[16:29])
    header[12] = 1
    data = data[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]
    assert_close(decoded(data, (8, 1)), grey_as_rgb(column[:, None]), 0)


def test_rgb_png_with_a_transparent_colour() -> None:
    pixels = RGB.copy()
    pixels[0, :3] = 1, 2, 3
    data = make_png(
        WIDTH, HEIGHT, 8, 2, pixels.tobytes(), chunks=[(b"tRNS", struct.pack(">3H", 1, 2, 3))]
    )
    expected = pixels.copy()
    expected[0, :3] = 255
    assert_close(decoded(data), expected, 0)


def test_16_bit_rgb_png() -> None:
    deep = np.dstack([GREY_16, GREY_16[::-1], GREY_16[:, ::-1]])
    data = make_png(WIDTH, HEIGHT, 16, 2, deep.astype(">u2").tobytes())
    assert_close(decoded(data), deep / 257, 1)  # Pillow keeps the high byte


def test_16_bit_rgb_png_with_a_transparent_colour() -> None:
    deep = np.dstack([GREY_16, GREY_16[::-1], GREY_16[:, ::-1]])
    key = [int(value) for value in deep[2, 3]]
    data = make_png(
        WIDTH,
        HEIGHT,
        16,
        2,
        deep.astype(">u2").tobytes(),
        chunks=[(b"tRNS", struct.pack(">3H", *key))],
    )
    expected = deep / 257
    expected[2, 3] = 255
    assert_close(decoded(data), expected, 1)


def test_rgba_png() -> None:
    data = make_png(WIDTH, HEIGHT, 8, 6, RGBA.tobytes())
    assert_close(decoded(data), over_white(RGBA[..., :3], RGBA[..., 3]), 1)


def test_16_bit_rgba_png() -> None:
    deep = np.random.default_rng(7).integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)
    data = make_png(WIDTH, HEIGHT, 16, 6, deep.astype(">u2").tobytes())
    assert_close(decoded(data), over_white(deep[..., :3] / 257, deep[..., 3] / 257), 2)


@pytest.mark.parametrize("bits", [4, 8])
def test_palette_png(bits: int) -> None:
    data = make_png(
        WIDTH, HEIGHT, bits, 3, packed(INDICES, bits), chunks=[(b"PLTE", PALETTE.tobytes())]
    )
    assert_close(decoded(data), PALETTE[INDICES], 0)


def test_palette_png_with_alpha_per_entry() -> None:
    chunks = [(b"PLTE", PALETTE.tobytes()), (b"tRNS", PALETTE_ALPHA.tobytes())]
    data = make_png(WIDTH, HEIGHT, 8, 3, INDICES.tobytes(), chunks=chunks)
    assert_close(decoded(data), over_white(PALETTE[INDICES], PALETTE_ALPHA[INDICES]), 1)


def test_palette_png_with_one_transparent_entry() -> None:
    key = int(INDICES[0, 0])
    alpha = np.full(16, 255, np.uint8)
    alpha[key] = 0
    chunks = [(b"PLTE", PALETTE.tobytes()), (b"tRNS", alpha.tobytes())]
    data = make_png(WIDTH, HEIGHT, 8, 3, INDICES.tobytes(), chunks=chunks)
    assert_close(decoded(data), over_white(PALETTE[INDICES], alpha[INDICES]), 0)


def frames() -> list[Image.Image]:
    return [Image.fromarray(random_pixels(HEIGHT, WIDTH, 3, seed=seed)) for seed in (0, 10, 11)]


def test_first_frame_of_an_animated_png() -> None:
    first, *others = frames()
    data = encode(first, "PNG", save_all=True, append_images=others)
    assert_close(decoded(data), RGB, 0)


def test_first_frame_of_an_animated_webp() -> None:
    first, *others = frames()
    data = encode(first, "WEBP", save_all=True, append_images=others, lossless=True)
    assert_close(decoded(data), RGB, 0)


def test_first_frame_of_an_animated_gif() -> None:
    first, *others = (Image.fromarray((INDICES + shift) % 16, "P") for shift in (0, 3, 7))
    for frame in (first, *others):
        frame.putpalette(PALETTE.tobytes())
    data = encode(first, "GIF", save_all=True, append_images=others)
    assert Image.open(io.BytesIO(data)).is_animated  # type: ignore[attr-defined]
    assert_close(decoded(data), PALETTE[INDICES], 0)


# GIF


def test_gif_with_a_transparent_entry() -> None:
    image = Image.fromarray(INDICES, "P")
    image.putpalette(PALETTE.tobytes())
    key = int(INDICES[1, 1])
    data = encode(image, "GIF", transparency=key, optimize=False)
    expected = PALETTE[INDICES].copy()
    expected[key == INDICES] = 255
    assert_close(decoded(data), expected, 0)


def test_grey_gif() -> None:
    image = Image.fromarray(GREY)
    assert_close(decoded(encode(image, "GIF")), grey_as_rgb(GREY), 0)


# JPEG: flat colours, which its compression leaves within 2 levels.


@pytest.mark.parametrize("progressive", [False, True])
def test_rgb_jpeg(*, progressive: bool) -> None:
    data = encode(flat((200, 30, 90), "RGB"), "JPEG", quality=95, progressive=progressive)
    assert_close(decoded(data), np.full((HEIGHT, WIDTH, 3), (200, 30, 90)), 2)


def test_grey_jpeg() -> None:
    data = encode(flat((77,), "L"), "JPEG", quality=95)
    assert_close(decoded(data), np.full((HEIGHT, WIDTH, 3), 77), 2)


INK = (40, 180, 90, 60)


def test_cmyk_jpeg() -> None:
    """As Adobe writes it: inverted inks."""
    data = encode(flat(INK, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert_close(decoded(data), np.broadcast_to(plain_cmyk(np.array(INK)), (HEIGHT, WIDTH, 3)), 3)


def test_cmyk_jpeg_without_adobe_marker_is_taken_for_adobes() -> None:
    """As browsers do: files that say nothing are inverted all the same."""
    data = encode(flat(INK, "CMYK"), "JPEG", quality=100)
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    data = data[:start] + data[start + 2 + length :]
    assert b"Adobe" not in data
    assert_close(decoded(data), np.broadcast_to(plain_cmyk(np.array(INK)), (HEIGHT, WIDTH, 3)), 3)


def test_ycck_jpeg() -> None:
    """The same file with the mark that its first three channels are Y, Cb and Cr."""
    luma, blue, red, black = 120, 100, 150, 40
    stored = flat((255 - luma, 255 - blue, 255 - red, black), "CMYK")
    data = bytearray(encode(stored, "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2
    rgb = np.array(
        [
            luma + 1.402 * (red - 128),
            luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
            luma + 1.772 * (blue - 128),
        ]
    )
    # libjpeg makes 255 - RGB of it, which Adobe means as inverted ink: RGB is the ink.
    expected = (255 - rgb) * (255 - black) / 255
    assert_close(decoded(bytes(data)), np.broadcast_to(expected, (HEIGHT, WIDTH, 3)), 3)


def test_first_image_of_an_mpo() -> None:
    first, second = flat((200, 30, 90), "RGB"), flat((0, 255, 0), "RGB")
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert b"MPF\0" in data
    assert_close(decoded(data), np.full((HEIGHT, WIDTH, 3), (200, 30, 90)), 2)


# WebP, AVIF, JPEG 2000, PPM


def test_lossless_webp() -> None:
    assert_close(decoded(encode(Image.fromarray(RGB), "WEBP", lossless=True)), RGB, 0)


def test_lossless_webp_with_alpha() -> None:
    data = encode(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True)
    assert_close(decoded(data), over_white(RGBA[..., :3], RGBA[..., 3]), 1)


@pytest.mark.parametrize("image_format", ["WEBP", "AVIF"])
def test_lossy(image_format: str) -> None:
    data = encode(flat((200, 30, 90), "RGB"), image_format, quality=95)
    assert_close(decoded(data), np.full((HEIGHT, WIDTH, 3), (200, 30, 90)), 4)


@pytest.mark.parametrize("image_format", ["WEBP", "AVIF"])
def test_lossy_with_alpha(image_format: str) -> None:
    data = encode(flat((200, 30, 90, 100), "RGBA"), image_format, quality=95)
    expected = over_white(np.array((200, 30, 90)), np.array(100))
    assert_close(decoded(data), np.broadcast_to(expected, (HEIGHT, WIDTH, 3)), 4)


def test_grey_avif() -> None:
    data = encode(flat((77,), "L"), "AVIF", quality=95)
    assert_close(decoded(data), np.full((HEIGHT, WIDTH, 3), 77), 3)


@pytest.mark.parametrize("wrapped", [True, False])
def test_jpeg_2000(*, wrapped: bool) -> None:
    data = encode(Image.fromarray(RGB), "JPEG2000", no_jp2=not wrapped)
    assert_close(decoded(data), RGB, 0)


def test_jpeg_2000_with_alpha() -> None:
    data = encode(Image.fromarray(RGBA), "JPEG2000")
    assert_close(decoded(data), over_white(RGBA[..., :3], RGBA[..., 3]), 1)


def test_16_bit_grey_jpeg_2000() -> None:
    data = encode(Image.fromarray(GREY_16), "JPEG2000")
    assert_close(decoded(data), grey_as_rgb(GREY_16 / 257), 0.5)


@pytest.mark.parametrize(
    ("head", "body", "expected", "tolerance"),
    [
        (b"P6 6 4 255\n", RGB.tobytes(), RGB, 0),
        (b"P5 6 4 255\n", GREY.tobytes(), grey_as_rgb(GREY), 0),
        (b"P5 6 4 65535\n", GREY_16.astype(">u2").tobytes(), grey_as_rgb(GREY_16 / 257), 0.5),
        (b"P5 6 4 15\n", INDICES.tobytes(), grey_as_rgb(INDICES * 17), 0),
        (b"P3 6 4 255\n", " ".join(map(str, RGB.ravel())).encode() + b"\n", RGB, 0),
        (b"P4 6 4\n", packed(GREY >> 7, 1), grey_as_rgb(255 - (GREY >> 7) * 255), 0),
    ],
    ids=["P6", "P5", "P5 16 bit", "P5 4 bit", "P3", "P4"],
)
def test_ppm(head: bytes, body: bytes, expected: NDArray[Any], tolerance: float) -> None:
    assert_close(decoded(head + body), expected, tolerance)


# BMP


BMP_PALETTE = np.dstack([PALETTE[:, ::-1][None], np.zeros((1, 16), np.uint8)]).tobytes()


def aligned(rows: list[bytes]) -> bytes:
    """Bottom row first, each padded to 4 bytes."""
    return b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in reversed(rows))


def test_24_bit_bmp() -> None:
    data = make_bmp(WIDTH, HEIGHT, 24, aligned([row[:, ::-1].tobytes() for row in RGB]))
    assert_close(decoded(data), RGB, 0)


def test_bmp_with_its_top_row_first() -> None:
    rows = aligned([row[:, ::-1].tobytes() for row in RGB[::-1]])
    assert_close(decoded(make_bmp(WIDTH, -HEIGHT, 24, rows)), RGB, 0)


def test_32_bit_bmp_has_no_alpha() -> None:
    rows = aligned([row[:, [2, 1, 0, 3]].tobytes() for row in RGBA])
    assert_close(decoded(make_bmp(WIDTH, HEIGHT, 32, rows)), RGBA[..., :3], 0)


def test_bmp_with_an_alpha_mask() -> None:
    rows = aligned([row[:, [2, 1, 0, 3]].tobytes() for row in RGBA])
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = bytearray(make_bmp(WIDTH, HEIGHT, 32, rows, compression=3, masks=masks))
    data[14] = 56  # the masks are part of a version 3 header
    assert_close(decoded(bytes(data)), over_white(RGBA[..., :3], RGBA[..., 3]), 1)


@pytest.mark.parametrize("masks", [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)])
def test_16_bit_bmp(masks: tuple[int, int, int]) -> None:
    values = GREY_16.copy()
    channels = []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1
        channels.append(((values & mask) >> shift) / (mask >> shift) * 255)
    data = make_bmp(
        WIDTH,
        HEIGHT,
        16,
        aligned([row.astype("<u2").tobytes() for row in values]),
        compression=3,
        masks=masks,
    )
    assert_close(decoded(data), np.dstack(channels), 1)


@pytest.mark.parametrize("bits", [4, 8])
def test_palette_bmp(bits: int) -> None:
    rows = aligned([packed(row[None], bits) for row in INDICES])
    assert_close(
        decoded(make_bmp(WIDTH, HEIGHT, bits, rows, palette=BMP_PALETTE)), PALETTE[INDICES], 0
    )


def test_run_length_bmp() -> None:
    rows = b"".join(b"".join(bytes([1, index]) for index in row) + b"\0\0" for row in INDICES[::-1])
    data = make_bmp(WIDTH, HEIGHT, 8, rows + b"\0\1", palette=BMP_PALETTE, compression=1)
    assert_close(decoded(data), PALETTE[INDICES], 0)


def test_1_bit_bmp() -> None:
    rows = aligned([packed(row[None], 1) for row in GREY >> 7])
    data = make_bmp(WIDTH, HEIGHT, 1, rows, palette=bytes([0, 0, 0, 0, 255, 255, 255, 0]))
    assert_close(decoded(data), grey_as_rgb((GREY >> 7) * 255), 0)


# TIFF


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiff(order: str) -> None:
    pixels = GREY_16.astype(order + "u2").tobytes()
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 1, [16]), pixels, order)
    assert_close(decoded(data), grey_as_rgb(GREY_16 / 257), 0.5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_32_bit_tiff_of_16_bit_values(order: str) -> None:
    tags = {**tiff_tags(WIDTH, HEIGHT, 1, [32]), 339: (3, [2])}
    data = make_tiff(tags, GREY_16.astype(order + "i4").tobytes(), order)
    assert_close(decoded(data), grey_as_rgb(GREY_16 / 257), 0.5)


@pytest.mark.parametrize("value", [-1, 65_536])
def test_32_bit_tiff_beyond_16_bits_is_refused(value: int) -> None:
    tags = {**tiff_tags(WIDTH, HEIGHT, 1, [32]), 339: (3, [2])}
    pixels = GREY_16.astype("<i4")
    pixels[1, 1] = value
    with pytest.raises(BrokenImage, match="range"):
        decoded(make_tiff(tags, pixels.tobytes()))


def test_floating_point_tiff_is_refused() -> None:
    data = encode(Image.fromarray(GREY.astype(np.float32)), "TIFF")
    with pytest.raises(BrokenImage, match="floating point"):
        decoded(data)


def test_cmyk_tiff() -> None:
    cmyk = random_pixels(HEIGHT, WIDTH, 4, seed=12)
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 5, [8] * 4), cmyk.tobytes())
    assert_close(decoded(data), plain_cmyk(cmyk), 1)


def test_ycbcr_tiff() -> None:
    luma, blue, red = 120, 100, 150
    pixels = bytes([luma, blue, red]) * (WIDTH * HEIGHT)
    tags = {**tiff_tags(WIDTH, HEIGHT, 6, [8] * 3), 530: (3, [1, 1])}
    expected = (
        luma + 1.402 * (red - 128),
        luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        luma + 1.772 * (blue - 128),
    )
    assert_close(decoded(make_tiff(tags, pixels)), np.broadcast_to(expected, (HEIGHT, WIDTH, 3)), 1)


def lab_to_srgb(lightness: float, a: float, b: float) -> NDArray[np.float64]:
    y = (lightness + 16) / 116
    steps = np.array([y + a / 500, y, y - b / 200])
    cubes = np.where(steps > 6 / 29, steps**3, (steps - 4 / 29) * 3 * (6 / 29) ** 2)
    return xyz_to_srgb(cubes * D50)


def test_lab_tiff() -> None:
    # TIFF keeps a and b signed.
    pixels = np.array([[round(60 * 2.55), -20 & 0xFF, 30]] * (WIDTH * HEIGHT), np.uint8)
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 8, [8] * 3), pixels.tobytes())
    expected = np.broadcast_to(lab_to_srgb(60, -20, 30), (HEIGHT, WIDTH, 3))
    assert_close(decoded(data), expected, 2)


def test_tiff_with_plain_alpha() -> None:
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 2, [8] * 4, [2]), RGBA.tobytes())
    assert_close(decoded(data), over_white(RGBA[..., :3], RGBA[..., 3]), 1)


def test_tiff_with_associated_alpha() -> None:
    """Colours that are multiplied by alpha already: only the white is added."""
    alpha = RGBA[..., 3]
    stored = np.dstack([RGBA[..., :3] * (alpha[..., None] / 255), alpha]).astype(np.uint8)
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 2, [8] * 4, [1]), stored.tobytes())
    expected = stored[..., :3].astype(int) + (255 - alpha.astype(int))[..., None]
    assert_close(decoded(data), expected, 2)


def test_grey_tiff_with_associated_alpha() -> None:
    alpha = RGBA[..., 3]
    stored = np.dstack([GREY * (alpha / 255), alpha]).astype(np.uint8)
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 1, [8] * 2, [1]), stored.tobytes())
    expected = stored[..., 0].astype(int) + (255 - alpha.astype(int))
    assert_close(decoded(data), grey_as_rgb(expected), 2)


def test_palette_tiff_with_alpha() -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, :16] = PALETTE.T.astype(np.uint16) * 257
    tags = {
        **tiff_tags(WIDTH, HEIGHT, 3, [8, 8], [2]),
        320: (3, [int(value) for value in colours.ravel()]),
    }
    stored = np.dstack([INDICES, RGBA[..., 3]])
    found = decoded(make_tiff(tags, stored.tobytes()))
    assert_close(found, over_white(PALETTE[INDICES], RGBA[..., 3]), 1)


def test_grey_tiff_with_white_as_zero() -> None:
    data = make_tiff(tiff_tags(WIDTH, HEIGHT, 0, [8]), GREY.tobytes())
    assert_close(decoded(data), grey_as_rgb(255 - GREY.astype(int)), 0)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(compression: str) -> None:
    assert_close(decoded(encode(Image.fromarray(RGB), "TIFF", compression=compression)), RGB, 0)


def test_first_page_of_a_tiff() -> None:
    first, *others = frames()
    data = encode(first, "TIFF", save_all=True, append_images=others)
    assert_close(decoded(data), RGB, 0)


# Orientation

TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}
LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "raw"},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def oriented(image: Image.Image, image_format: str, orientation: int) -> bytes:
    if image_format == "TIFF":
        return encode(image, "TIFF", tiffinfo={274: orientation})
    return encode(image, image_format, exif=exif_of(orientation), **LOSSLESS[image_format])


@pytest.mark.parametrize("image_format", LOSSLESS)
@pytest.mark.parametrize("orientation", TURNS)
def test_upright(image_format: str, orientation: int) -> None:
    data = oriented(Image.fromarray(RGB), image_format, orientation)
    expected = TURNS[orientation](RGB)
    height, width, _ = expected.shape
    tolerance = 6 if image_format == "AVIF" else 0
    assert_close(decoded(data, (height, width)), expected, tolerance)


@pytest.mark.parametrize("resize", ["stretch", "crop", "crop-0.875"])
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("scale", [1, 6], ids=["undrafted", "drafted"])
def test_upright_jpeg(orientation: int, resize: ResizeRule, scale: int) -> None:
    """A turned JPEG gives what the upright image gives, into a target that is not square."""
    image = photograph(1, 100 * scale, 160 * scale)
    turned = TURNS[{6: 8, 8: 6}.get(orientation, orientation)](np.asarray(image))
    stored = Image.fromarray(np.ascontiguousarray(turned))
    data = encode(stored, "JPEG", quality=95, subsampling=0, exif=exif_of(orientation))
    expected = decoded(encode(image, "PNG"), (20, 48), resize)
    found = decoded(data, (20, 48), resize)
    assert np.abs(found - expected).mean() < 1
    assert np.abs(found - expected).max() < 16


def test_exif_behind_the_pixels_of_a_png() -> None:
    data = make_png(WIDTH, HEIGHT, 8, 2, RGB.tobytes(), last_chunks=[(b"eXIf", exif_of(6)[6:])])
    assert_close(decoded(data, (WIDTH, HEIGHT)), TURNS[6](RGB), 0)


BROKEN_EXIF = {
    "text": b"no exif",
    "header alone": b"MM\0*",
    "offset beyond the end": b"MM\0*\xff\xff\xff\xff",
    "cut short": exif_of(6)[6:-8],
    "orientation 9": exif_of(9)[6:],
    "orientation 0": exif_of(0)[6:],
    "orientation of type text": b"MM\0*\0\0\0\x08\0\1\x01\x12\0\2\0\0\0\2a\0\0\0\0\0\0\0",
    "directory that is its own next": b"MM\0*\0\0\0\x08\0\0\0\0\0\x08",
    "value far outside": b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\xff\xff\xff\xff\xff\xf0\0\0\0\0",
}


@pytest.mark.parametrize("exif", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG"])
def test_broken_exif_is_ignored(exif: bytes, image_format: str) -> None:
    if image_format == "PNG":
        data = make_png(WIDTH, HEIGHT, 8, 2, RGB.tobytes(), chunks=[(b"eXIf", exif)])
    elif image_format == "WEBP":
        data = encode(Image.fromarray(RGB), "WEBP", lossless=True, exif=exif)
    else:
        data = encode(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0" + exif)
    plain = encode(Image.fromarray(RGB), image_format, **LOSSLESS.get(image_format, {}))
    assert_close(decoded(data), decoded(plain), 0)


# Resize rules


def test_stretch_takes_the_whole_image() -> None:
    """A step in the middle of the width stays in the middle, whatever the ratio."""
    image = np.zeros((60, 200, 3), np.uint8)
    image[:, 100:] = 200
    found = decoded(encode(Image.fromarray(image), "PNG"), (10, 10))
    assert (found[:, :4] == 0).all()
    assert (found[:, 6:] == 200).all()


@pytest.mark.parametrize(("height", "width"), [(60, 200), (200, 60), (61, 200), (60, 203)])
def test_crop_takes_the_centre(height: int, width: int) -> None:
    """Outside of the largest centred square all is white, inside it is a ramp.

    The filter is as wide as two target pixels, so the outermost ones see a little of the white.
    """
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = np.full((height, width, 3), 255, np.uint8)
    ramp = np.linspace(0, 200, side)
    image[top : top + side, left : left + side] = (ramp[:, None] / 2 + ramp / 2)[..., None]
    found = decoded(encode(Image.fromarray(image), "PNG"), (10, 10), "crop")
    coarse = np.asarray(
        Image.fromarray(image[top : top + side, left : left + side]).resize(
            (10, 10), Image.Resampling.BILINEAR
        )
    )
    assert_close(found[1:-1, 1:-1], coarse[1:-1, 1:-1], 2)
    assert_close(found, coarse, 40)


def test_crop_to_a_ratio_that_is_not_square() -> None:
    image = random_pixels(40, 40, 3, seed=20)
    found = decoded(encode(Image.fromarray(image), "PNG"), (10, 20), "crop")
    expected = Image.fromarray(image[10:30]).resize((20, 10), Image.Resampling.BILINEAR)
    assert_close(found[1:-1], np.asarray(expected)[1:-1], 0)


@pytest.mark.parametrize("orientation", [1, 5, 6, 8])
@pytest.mark.parametrize(
    ("rule", "share"), [("crop-0.875", Fraction(7, 8)), ("crop-0.9", Fraction(9, 10))]
)
@pytest.mark.parametrize("extent", [(256, 256), (61, 203), (201, 67), (6, 9), (224, 224)])
def test_crop_of_a_share(
    extent: tuple[int, int], rule: str, share: Fraction, orientation: int
) -> None:
    """As Pillow makes it of the upright image, from a box that is counted in fractions."""
    height, width = 24, 48  # of the model: not square
    upright = random_pixels(*extent, 3, seed=21)
    back = TURNS[{6: 8, 8: 6}.get(orientation, orientation)](upright)
    side = share * min(Fraction(extent[0], height), Fraction(extent[1], width))
    left, top = (extent[1] - side * width) / 2, (extent[0] - side * height) / 2
    right, bottom = left + side * width, top + side * height
    expected = Image.fromarray(upright).resize(
        (width, height),
        Image.Resampling.BILINEAR,
        (float(left), float(top), float(right), float(bottom)),
    )
    stored = Image.fromarray(np.ascontiguousarray(back))
    found = decoded(oriented(stored, "PNG", orientation), (height, width), rule)
    assert_close(found, np.asarray(expected), 0 if orientation == 1 else 1)


def test_crop_of_a_share_is_what_evaluations_do() -> None:
    """The shorter side to 256 pixels, and of that the 224 in the centre; but for its rounding."""
    image = photograph(6, 300, 500)
    whole = image.resize((427, 256), Image.Resampling.BILINEAR)
    left = (427 - 224) / 2
    expected = np.asarray(whole)[16:240, round(left) : round(left) + 224]
    found = decoded(encode(image, "PNG"), (224, 224), "crop-0.875")
    assert np.abs(found - expected).mean() < 2


def test_an_image_of_the_models_size_is_cut_all_the_same() -> None:
    """Nothing has to be resized for the other rules, so they take a shorter way."""
    image = photograph(7, 32, 32)
    for image_format in ("PNG", "JPEG"):
        data = encode(image, image_format)
        whole, centre = (decoded(data, (32, 32), rule) for rule in ("crop", "crop-0.5"))
        assert np.abs(centre - np.repeat(np.repeat(whole[8:24, 8:24], 2, 0), 2, 1)).mean() < 8
        assert np.abs(centre - whole).mean() > 8


def test_antialiased_bilinear() -> None:
    """A triangle as wide as two target pixels: stripes of one pixel become grey, not aliases."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 255
    found = decoded(encode(Image.fromarray(image), "PNG"), (8, 8))
    assert_close(found, np.full((8, 8, 3), 127.5), 5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "crop-0.0001"])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_extreme_ratios(height: int, width: int, resize: ResizeRule, image_format: str) -> None:
    data = encode(Image.new("RGB", (width, height), (10, 200, 30)), image_format)
    assert_close(decoded(data, (7, 5), resize), np.full((7, 5, 3), (10, 200, 30)), 2)


def test_enlarged() -> None:
    data = encode(Image.new("RGB", (2, 1), (9, 8, 7)), "PNG")
    assert_close(decoded(data, (50, 40)), np.full((50, 40, 3), (9, 8, 7)), 0)


# Alpha


def test_partial_alpha_by_numbers() -> None:
    colours = np.array([[[0, 100, 200, alpha] for alpha in (0, 1, 64, 128, 254, 255)]], np.uint8)
    found = decoded(encode(Image.fromarray(colours), "PNG"), (1, 6))
    expected = [
        [255, 255, 255],
        [254, 254, 255],
        [191, 216, 241],
        [127, 177, 227],
        [1, 101, 200],
        [0, 100, 200],
    ]
    assert_close(found, np.array([expected]), 1)


def test_colours_under_full_transparency_do_not_bleed() -> None:
    """Black that is transparent beside opaque green: the mean is half white, half green."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, ::2] = 0, 200, 0, 255
    found = decoded(encode(Image.fromarray(pixels), "PNG"), (1, 1))
    assert_close(found, np.array([[[127.5, 227.5, 127.5]]]), 2)


def test_composition_and_resize_commute() -> None:
    """What is composed at full size in floats and then resized differs by its rounding only."""
    image = np.dstack([np.asarray(photograph(3, 90, 130)), random_pixels(90, 130, seed=8)])
    composed = over_white(image[..., :3], image[..., 3]).astype(np.float32)
    channels = [
        np.asarray(Image.fromarray(composed[..., i]).resize((16, 12), Image.Resampling.BILINEAR))
        for i in range(3)
    ]
    found = decoded(encode(Image.fromarray(image), "PNG"), (12, 16))
    assert_close(found, np.dstack(channels), 1.5)


# ICC

ADOBE_RGB = rgb_profile(ADOBE_RGB_TO_XYZ, 2.2)
GREY_PROFILE = grey_profile(1.5)


def from_adobe_rgb(rgb: NDArray[Any]) -> NDArray[np.float64]:
    return xyz_to_srgb((rgb / 255) ** (563 / 256) @ ADOBE_RGB_TO_XYZ.T)


def test_profile_by_arithmetic() -> None:
    """Greys to 200 and soft colours, which stay inside of sRGB."""
    rgb = (RGB // 4 + 90).astype(np.uint8)
    data = encode(Image.fromarray(rgb), "PNG", icc_profile=ADOBE_RGB)
    expected = from_adobe_rgb(rgb)
    assert np.abs(expected - rgb).max() > 8  # it does change the colours
    assert_close(decoded(data), expected, 2)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_profile_in_every_format(image_format: str) -> None:
    """As ImageCms converts the whole image, and then the resize."""
    image = photograph(5, 60, 80)
    data = encode(image, image_format, icc_profile=ADOBE_RGB, quality=95)
    with Image.open(io.BytesIO(data)) as plain:
        converted = ImageCms.profileToProfile(
            plain.convert("RGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(ADOBE_RGB)),
            ImageCms.createProfile("sRGB"),
        )
    assert converted is not None
    size = 24, 32  # too near to that of the image for a draft
    expected = converted.resize(size[::-1], Image.Resampling.BILINEAR)
    found = decoded(data, size)
    assert_close(found, np.asarray(expected), 0)
    without = decoded(encode(image, image_format, quality=95), size)
    assert np.abs(found - without).max() > 5


def test_profile_with_alpha() -> None:
    rgba = np.dstack([RGB // 4 + 90, RGBA[..., 3]]).astype(np.uint8)
    data = encode(Image.fromarray(rgba), "PNG", icc_profile=ADOBE_RGB)
    expected = over_white(from_adobe_rgb(rgba[..., :3]), rgba[..., 3])
    assert_close(decoded(data), expected, 2)


def test_profile_with_a_palette() -> None:
    palette = (PALETTE // 4 + 90).astype(np.uint8)
    image = Image.fromarray(INDICES, "P")
    image.putpalette(palette.tobytes())
    data = encode(image, "PNG", icc_profile=ADOBE_RGB)
    assert_close(decoded(data), from_adobe_rgb(palette)[INDICES], 2)


def test_profile_with_a_palette_and_alpha() -> None:
    palette = (PALETTE // 4 + 90).astype(np.uint8)
    image = Image.fromarray(INDICES, "P")
    image.putpalette(palette.tobytes())
    data = encode(image, "PNG", icc_profile=ADOBE_RGB, transparency=PALETTE_ALPHA.tobytes())
    expected = over_white(from_adobe_rgb(palette)[INDICES], PALETTE_ALPHA[INDICES])
    assert_close(decoded(data), expected, 2)


def from_grey(grey: NDArray[Any]) -> NDArray[np.float64]:
    return xyz_to_srgb(((grey / 255) ** 1.5)[..., None] * D50)


def test_grey_profile() -> None:
    data = encode(Image.fromarray(GREY), "PNG", icc_profile=GREY_PROFILE)
    expected = from_grey(GREY)
    assert np.abs(expected - grey_as_rgb(GREY)).max() > 20
    assert_close(decoded(data), expected, 2)


def test_grey_profile_with_alpha() -> None:
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(RGBA[..., 3])))
    data = encode(grey_alpha, "PNG", icc_profile=GREY_PROFILE)
    assert_close(decoded(data), over_white(from_grey(GREY), RGBA[..., 3]), 2)


def test_grey_profile_with_a_transparent_value() -> None:
    key = int(GREY[2, 2])
    data = encode(Image.fromarray(GREY), "PNG", icc_profile=GREY_PROFILE, transparency=key)
    expected = from_grey(GREY)
    expected[key == GREY] = 255
    assert_close(decoded(data), expected, 2)


def test_grey_profile_of_16_and_of_1_bit() -> None:
    profile = GREY_PROFILE
    deep = encode(Image.fromarray(GREY_16), "PNG", icc_profile=profile)
    assert_close(decoded(deep), from_grey(GREY_16 / 257), 7)  # 8 bits before the curve
    bits = encode(Image.fromarray(GREY > 127), "PNG", icc_profile=profile)
    assert_close(decoded(bits), grey_as_rgb((GREY > 127) * 255), 1)


CORNERS = {
    (c, m, y, k): (
        (1 - k) * (100 - 30 * c - 25 * m - 10 * y),
        (1 - k) * (20 * m - 20 * c),
        (1 - k) * (25 * y - 20 * c),
    )
    for c in (0, 1)
    for m in (0, 1)
    for y in (0, 1)
    for k in (0, 1)
}


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
@pytest.mark.parametrize("inks", [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1)])
def test_cmyk_profile(image_format: str, inks: tuple[int, int, int, int]) -> None:
    image = flat(tuple(255 * ink for ink in inks), "CMYK")
    data = encode(image, image_format, icc_profile=cmyk_profile(CORNERS), quality=100)
    expected = np.broadcast_to(lab_to_srgb(*CORNERS[inks]), (HEIGHT, WIDTH, 3))
    assert_close(decoded(data), expected, 3)


IGNORED_PROFILES = {
    "damaged": ADOBE_RGB[:100] + b"\0" * 200,
    "cut short": ADOBE_RGB[:-40],
    "text": b"no profile at all",
    "of grey": GREY_PROFILE,
    "of cmyk": cmyk_profile(CORNERS),
    "empty table": ADOBE_RGB[:128] + bytes(4),
}


@pytest.mark.parametrize("profile", IGNORED_PROFILES.values(), ids=IGNORED_PROFILES)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_profile_that_does_not_fit_is_ignored(profile: bytes, image_format: str) -> None:
    image, options = Image.fromarray(RGB), LOSSLESS.get(image_format, {})
    data = encode(image, image_format, icc_profile=profile, **options)
    assert profile[:16] in data or image_format == "PNG"
    assert_close(decoded(data), decoded(encode(image, image_format, **options)), 0)


@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_profile_of_a_grey_image_is_ignored(*, alpha: bool) -> None:
    image = Image.fromarray(GREY).convert("LA" if alpha else "L")
    data = encode(image, "PNG", icc_profile=ADOBE_RGB)
    assert_close(decoded(data), grey_as_rgb(GREY), 0)


# Limits and refusals


def test_no_bytes() -> None:
    with pytest.raises(EmptyImage):
        decode_image(b"", (8, 8))


def test_pixels_beyond_the_limit() -> None:
    data = encode(Image.new("RGB", (30, 20)), "PNG")
    assert decode_image(data, (8, 8), limits=ImageLimits(max_pixels=600)).source_pixels == 600
    with pytest.raises(TooManyPixels, match="30x20 = 600 pixels, 599 are allowed"):
        decode_image(data, (8, 8), limits=ImageLimits(max_pixels=599))


def test_limit_above_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit is the process's: it does not stand in the way, and never shrinks."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encode(Image.new("RGB", (30, 20), "teal"), "PNG")
    assert decode_image(data, (8, 8), limits=ImageLimits(max_pixels=600)).source_pixels == 600
    with pytest.raises(TooManyPixels):
        decode_image(data, (8, 8), limits=ImageLimits(max_pixels=599))
    assert Image.MAX_IMAGE_PIXELS == 600


def test_far_above_the_limit_is_refused_before_pillow_allocates() -> None:
    data = encode(Image.new("1", (20_000, 20_000)), "PNG")
    with pytest.raises(TooManyPixels, match="more pixels than are allowed"):
        decode_image(data, (8, 8), limits=ImageLimits(max_pixels=600))


@pytest.mark.parametrize("image_format", ["TIFF", "AVIF", "JPEG2000", "PPM"])
def test_formats_on_request(image_format: str) -> None:
    data = encode(Image.fromarray(RGB), image_format)
    with pytest.raises(UnsupportedFormat, match=rf"{image_format} is not read here.*JPEG, PNG"):
        decode_image(data, (8, 8))
    assert decode_image(data, (8, 8), limits=ImageLimits(formats=(image_format,))) is not None


@pytest.mark.parametrize("image_format", [name for name in READABLE_FORMATS if name != "PPM"])
def test_signature_of_what_pillow_writes(image_format: str) -> None:
    assert detect_format(encode(Image.fromarray(RGB), image_format)) == image_format


def test_source_pixels_are_those_of_the_file() -> None:
    """Not of the scaled-down JPEG."""
    data = encode(photograph(2, 600, 900), "JPEG")
    assert decode_image(data, (8, 8)).source_pixels == 600 * 900


# Threads


def test_many_threads_get_the_pixels_that_one_gets() -> None:
    """Profiles, alpha and drafts at once, with more profiles than transforms are kept."""
    files = []
    for seed in range(12):
        image = photograph(seed, 300, 400)
        profile = rgb_profile(ADOBE_RGB_TO_XYZ, 1.6 + seed / 10)
        files += [
            encode(image, "JPEG", icc_profile=profile, exif=exif_of(seed % 8 + 1)),
            encode(image.convert("RGBA"), "WEBP", icc_profile=profile, method=0),
            encode(image.convert("L"), "PNG", icc_profile=grey_profile(1 + seed / 10)),
        ]
    alone = [decoded(data, (24, 16)) for data in files]
    start = threading.Barrier(8)

    def decode_all(shift: int) -> list[NDArray[np.int64]]:
        start.wait()
        turned = files[shift * 5 :] + files[: shift * 5]
        found = [decoded(data, (24, 16)) for data in turned]
        return found[len(files) - shift * 5 :] + found[: len(files) - shift * 5]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(decode_all, range(8), timeout=60):
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one, other)
