"""Images and files for tests: photographs made of numbers, and formats written byte by byte.

What Pillow can write it writes; the rest is put together here, so that a reader is tested on bytes
that no encoder of the same library had a hand in.
"""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]

# Primaries adapted to D50, as columns of RGB -> XYZ.
SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
ADOBE_RGB_TO_XYZ = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
D50 = (0.9642, 1.0, 0.8249)


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The image as a file of ``image_format``."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def random_pixels(*shape: int, seed: int = 0) -> Pixels:
    """Noise: neighbours that have nothing to do with each other, so that no mix-up goes unseen."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Statistics of a photograph: 1/f noise, grain, shapes with edges, one main hue."""
    rng = np.random.default_rng(seed)
    small = (max(width // 4, 1), max(height // 4, 1))
    colours = np.full((small[1], small[0], 3), rng.uniform(40, 215, 3), np.float32)
    strength = 60.0
    for cells in (3, 8, 24, 72):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        layer = np.asarray(noise.resize(small, Image.Resampling.BICUBIC), np.float32)
        colours += (layer - 128) * (strength / 128)
        strength *= 0.55
    image = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    tile = rng.integers(0, 256, (min(height, 128), min(width, 128), 3), np.uint8)
    repeats = (-(-height // len(tile)), -(-width // tile.shape[1]), 1)
    grain = Image.fromarray(np.tile(tile, repeats)[:height, :width])
    image = Image.blend(image, grain, 0.06)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 9)):
        x, y = rng.uniform(-0.2, 1, 2) * (width, height)
        corners = (x, y, x + rng.uniform(0.05, 0.6) * width, y + rng.uniform(0.05, 0.6) * height)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(corners, fill=colour)
    return image


# PNG


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def make_png(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    rows: bytes,
    *,
    chunks: Sequence[tuple[bytes, bytes]] = (),
    last_chunks: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of ``rows`` as the format packs them, without the filter bytes in front of each."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [
        (b"IHDR", header),
        *chunks,
        (b"IDAT", zlib.compress(filtered)),
        *last_chunks,
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


# TIFF


def make_tiff(
    tags: Mapping[int, tuple[int, Sequence[int]]], pixels: bytes, order: str = "<"
) -> bytes:
    """An uncompressed TIFF of one strip: tags as {tag: (type, values)}, types 1, 3 and 4."""
    codes = {1: "B", 3: "H", 4: "I"}
    tags = {**tags, 273: (4, [8]), 279: (4, [len(pixels)])}
    pixels += b"\0" * (len(pixels) % 2)
    directory = 8 + len(pixels)
    overflow_at = directory + 2 + 12 * len(tags) + 4
    entries, overflow = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        if len(content) > 4:
            offset = overflow_at + len(overflow)
            overflow += content
            content = struct.pack(order + "I", offset)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
    count = struct.pack(order + "H", len(tags))
    return head + pixels + count + entries + struct.pack(order + "I", 0) + overflow


def tiff_tags(
    width: int, height: int, photometric: int, bits: Sequence[int], extra: Sequence[int] = ()
) -> dict[int, tuple[int, Sequence[int]]]:
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, bits),
        259: (3, [1]),
        262: (3, [photometric]),
        277: (3, [len(bits)]),
        278: (3, [height]),
    }
    return {**tags, 338: (3, extra)} if extra else tags


# BMP


def make_bmp(
    width: int,
    height: int,
    bits: int,
    content: bytes,
    *,
    palette: bytes = b"",
    compression: int = 0,
    masks: Sequence[int] = (),
) -> bytes:
    """A Windows BMP; ``height`` below 0 means top row first, ``masks`` go behind the header."""
    header = struct.pack(
        "<IiiHHIIiiII",
        40, width, height, 1, bits, compression, len(content), 0, 0, len(palette) // 4, 0,
    )  # fmt: skip
    header += struct.pack(f"<{len(masks)}I", *masks)
    start = 14 + len(header) + len(palette)
    return (
        b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + header + palette + content
    )


# ICC profiles, version 2


def rgb_profile(rgb_to_xyz: NDArray[np.float64], gamma: float) -> bytes:
    """A matrix profile: three primaries and one power curve."""
    curve = b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    tags = {b"wtpt": _xyz(D50)}
    for column, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = _xyz(rgb_to_xyz[:, column])
        tags[letter + b"TRC"] = curve
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(D50), b"kTRC": curve})


def cmyk_profile(corners: Mapping[tuple[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """A table profile: the CIELAB colour of each of the 16 full inks' combinations."""
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    line = bytes(range(256))
    table = b""
    for number in range(16):
        c, m, y, k = (number >> shift & 1 for shift in (3, 2, 1, 0))
        lightness, a, b = corners[c, m, y, k]
        table += bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])
    lut = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + identity + line * 4 + table + line * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(D50), b"A2B0": lut})


def _xyz(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(content), len(value))
        content += value + b"\0" * (-len(value) % 4)
    body = table + content
    header = struct.pack(">I4xI4s4s4s", 128 + len(body), 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += _xyz(D50)[8:]
    return header.ljust(128, b"\0") + body


def xyz_to_srgb(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """D50 XYZ (white = 1) in the last axis as sRGB, 0 to 255, what is out of range cut off."""
    linear = (xyz @ np.linalg.inv(SRGB_TO_XYZ).T).clip(0, 1)
    low, high = linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear <= 0.0031308, low, high) * 255)


# JPEG


def tall_jpeg(strip: Image.Image, times: int, **options: Any) -> bytes:
    """A baseline JPEG of a strip that is repeated downwards, without its pixels ever being made.

    The strip's height is a multiple of 128, so that the eight restarts end with it.
    """
    data = encode(strip, "JPEG", restart_marker_rows=1, **options)
    scan = data.index(b"\xff\xda") + 2
    rows = data[scan + int.from_bytes(data[scan : scan + 2], "big") : -2]
    head = bytearray(data[: -2 - len(rows)])
    height = head.index(b"\xff\xc0") + 5
    head[height : height + 2] = (strip.height * times).to_bytes(2, "big")
    return bytes(head) + b"\xff\xd7".join([rows] * times) + b"\xff\xd9"
