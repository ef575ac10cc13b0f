"""Files that mean harm, or look like it: what decode_image must answer to each.

``expected`` is the domain exception, None for an image that is served like any other. Cases with
``on_request`` hold a format that is not read by default: without its being allowed they are an
UnsupportedFormat.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from PIL import ExifTags, Image

from service.inference.errors import (
    BrokenImage,
    EmptyImage,
    ImageError,
    TooManyPixels,
    UnsupportedFormat,
)
from service.inference.formats import DEFAULT_FORMATS
from tests.images import encode, make_bmp, make_png, make_tiff, photograph, png_chunk, tiff_tags

# A body that just passes the service's limit of bytes would do; a part of it shows the same.
LARGE = 5_000_000


@dataclass(frozen=True)
class HostileImage:
    name: str
    build: Callable[[], bytes]
    expected: type[ImageError] | None
    on_request: bool = False


def hostile_images() -> list[HostileImage]:
    cases = [
        HostileImage("zero bytes", lambda: b"", EmptyImage),
        *_odd_but_fine(),
        *_not_images(),
        *_truncated(),
        *_too_large(),
        *_heavy_metadata(),
        *_broken_png(),
        *_broken_jpeg(),
        *_broken_gif_and_webp(),
        *_broken_bmp(),
        *_tiff(),
        *_on_request(),
    ]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def small(image_format: str = "PNG") -> bytes:
    return encode(photograph(1, 48, 64), image_format)


def segment(marker: int, content: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(segments: bytes) -> bytes:
    jpeg = small("JPEG")
    return jpeg[:2] + segments + jpeg[2:]


def _odd_but_fine() -> Iterator[HostileImage]:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1)):
        for image_format in DEFAULT_FORMATS:
            size = Image.new("RGB", (width, height), "teal")
            if image_format == "WEBP" and max(width, height) > 16_383:
                continue
            yield HostileImage(
                f"{width}x{height} {image_format}", partial(encode, size, image_format), None
            )
    fine: dict[str, Callable[[], bytes]] = {
        "png that is called jpg": small,
        "jpeg with garbage behind its end": lambda: small("JPEG") + b"\xff\xda garbage \xff" * 999,
        "jpeg with a zip behind its end": lambda: small("JPEG") + b"PK\3\4" + bytes(5000),
        "jpeg with a pdf in its comment": lambda: with_segments(
            segment(0xFE, b"%PDF-1.4\n1 0 obj <</Type/Catalog>> endobj")
        ),
        "png with html in its text": lambda: make_png(
            1, 1, 8, 0, b"\0", chunks=[(b"tEXt", b"Comment\0<html><script>alert(1)</script>")]
        ),
        "png with garbage behind its end": lambda: small() + b"\0garbage" * 999,
        "gif of 10,000 frames": _gif_of_many_frames,
        "png of 10,000 frames": _png_of_many_frames,
        "webp of many frames": lambda: encode(
            Image.new("RGB", (2, 2)),
            "WEBP",
            save_all=True,
            append_images=[Image.new("RGB", (2, 2), (i % 256, i // 256, 9)) for i in range(500)],
        ),
        "49 megapixels in a tiny png": lambda: _png_of_zeros(7000, 7000, 0),
        "49 megapixels of colour and alpha": lambda: _png_of_zeros(7000, 7000, 6),
        "49 megapixels in a tiny gif": lambda: encode(Image.new("L", (7000, 7000)), "GIF"),
        "49 megapixels in a small jpeg": lambda: encode(Image.new("L", (7000, 7000)), "JPEG"),
        "49 megapixels in a tiny webp": lambda: encode(
            Image.new("RGB", (7000, 7000)), "WEBP", lossless=True, method=0, quality=0
        ),
        "progressive jpeg of 49 megapixels": lambda: encode(
            Image.new("RGB", (7000, 7000)), "JPEG", progressive=True, subsampling=0
        ),
        "small jpeg of 500 scans": lambda: _jpeg_of_scans(64, 500),
        "gif frame outside of its screen": lambda: _gif(b",", (4, 4), place=(3, 3), screen=(4, 4)),
        "jpeg with a segment without length": lambda: with_segments(b"\xff\xe1\0\0"),
        # libjpeg fills in grey where the end comes early.
        "jpeg promised larger than it is": lambda: _jpeg_of_size(6000, 6000),
        "jpeg promised as large as can be": lambda: _jpeg_of_size(31_250, 32_000),
        "gif without its trailer": lambda: small("GIF")[:-1],
    }
    for name, build in fine.items():
        yield HostileImage(name, build, None)


def _not_images() -> Iterator[HostileImage]:
    contents = {
        "text renamed to jpg": b"This is not an image.\n" * 40,
        "html": b"<!DOCTYPE html><html><body><img src=x onerror=alert(1)></body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "xml with entities": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><svg>&b;</svg>',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        "pdf with a jpeg in it": b"%PDF-1.7\nstream\n" + encode(Image.new("L", (8, 8)), "JPEG"),
        "heic": struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(200),
        "jpeg xl": b"\xff\x0a" + bytes(200),
        "jpeg xl in a container": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200),
        "json": b'{"image": "..."}',
        "elf": b"\x7fELF\2\1\1" + bytes(200),
        "zip": b"PK\3\4" + bytes(200),
        "nulls": bytes(5000),
        "ico": b"\0\0\1\0\1\0" + bytes(200),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "psd": b"8BPS\0\1" + bytes(200),
        "riff that is no webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
        "first byte of a jpeg": b"\xff",
        "first bytes of a png": b"\x89PNG",
    }
    for name, content in contents.items():
        yield HostileImage(name, partial(bytes, content), UnsupportedFormat)


def _truncated() -> Iterator[HostileImage]:
    image = photograph(2, 60, 80)
    for image_format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"):
        data = encode(image, image_format)
        on_request = image_format not in DEFAULT_FORMATS
        for percent in (0, 2, 5, 10, 25, 50, 75, 90):
            part = data[: max(len(data) * percent // 100, 13)]
            name = f"{image_format} cut at {percent} %"
            # JPEG 2000 is made to be cut: what is there gives a coarser image, or none.
            if image_format == "JPEG2000" and percent > 0:
                continue
            yield HostileImage(name, partial(bytes, part), BrokenImage, on_request)


def _png_of_zeros(width: int, height: int, colour_type: int) -> bytes:
    samples = {0: 1, 6: 4}[colour_type]
    packer = zlib.compressobj(9)
    row = bytes(1 + width * samples)
    content = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return _png_with(width, height, content, colour_type)


def _png_with(width: int, height: int, content: bytes, colour_type: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def _gif(
    before: bytes,
    size: tuple[int, int],
    *,
    place: tuple[int, int] = (0, 0),
    screen: tuple[int, int],
) -> bytes:
    """One black frame, or the begin of it if it is a large one; ``before`` ends in the comma."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = struct.pack("<HHHHB", *place, *size, 0)
    # Clear, then a 0 for each pixel, cleared again before the codes grow longer, then the end.
    codes = [4, *(code for _ in range(min(size[0] * size[1], 4096)) for code in (0, 4)), 5]
    bits = "".join(f"{code:03b}"[::-1] for code in codes)
    lzw = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = (lzw[i : i + 255] for i in range(0, len(lzw), 255))
    return head + before + frame + b"\2" + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0;"


def _gif_of_many_frames() -> bytes:
    frame = b"!\xf9\4\0\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * 10_000 + b";"


def _png_of_many_frames() -> bytes:
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    control = struct.pack(">IIIIHHBB", 1, 1, 0, 0, 1, 10, 0, 0)
    pixel = zlib.compress(b"\0\x80")
    parts = [
        png_chunk(b"IHDR", header),
        png_chunk(b"acTL", struct.pack(">II", 10_000, 0)),
        png_chunk(b"fcTL", struct.pack(">I", 0) + control),
        png_chunk(b"IDAT", pixel),
    ]
    for frame in range(1, 10_000):
        parts += [
            png_chunk(b"fcTL", struct.pack(">I", 2 * frame - 1) + control),
            png_chunk(b"fdAT", struct.pack(">I", 2 * frame) + pixel),
        ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def _jpeg_of_scans(side: int, scans: int) -> bytes:
    jpeg = encode(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[start:-2] * scans + jpeg[-2:]


def _jpeg_of_size(width: int, height: int, bits: int = 8) -> bytes:
    jpeg = bytearray(small("JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 4 : start + 9] = struct.pack(">BHH", bits, height, width)
    return bytes(jpeg)


def _webp_canvas(width: int, height: int) -> bytes:
    content = (
        b"WEBPVP8X"
        + struct.pack("<I4B", 10, 2, 0, 0, 0)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
        + b"ANIM"
        + struct.pack("<I6x", 6)
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _too_large() -> Iterator[HostileImage]:
    dispose = b"!\xf9\4\x08\0\0\0\0,"
    cases: dict[str, Callable[[], bytes]] = {
        "png of 4 gigapixels": lambda: _png_with(65_535, 65_535, zlib.compress(b"\0")),
        "png of 2**62 pixels": lambda: _png_with(2**31 - 1, 2**31 - 1, zlib.compress(b"\0")),
        "png just above the limit": lambda: _png_with(50_000_001, 1, zlib.compress(b"\0")),
        "gif of 4 gigapixels": lambda: _gif(b",", (65_535, 65_535), screen=(65_535, 65_535)),
        "gif that clears 4 gigapixels": lambda: _gif(
            dispose, (65_535, 65_535), screen=(65_535, 65_535)
        ),
        "gif frame far outside of its screen": lambda: _gif(
            dispose, (60_000, 60_000), place=(65_535, 65_535), screen=(1, 1)
        ),
        "jpeg of 4 gigapixels": lambda: _jpeg_of_size(65_500, 65_500),
        "webp of 268 megapixels": lambda: _webp_canvas(16_384, 16_384),
        "webp of 4 gigapixels": lambda: _webp_canvas(65_536, 65_535),
        "bmp of 2**62 pixels": lambda: make_bmp(2**31 - 1, 2**31 - 1, 24, bytes(64)),
        "bmp of negative width": lambda: make_bmp(-9, 1, 24, bytes(99)),
        "bmp of 4 gigapixels upside down": lambda: make_bmp(65_535, -65_535, 24, bytes(64)),
        "jpeg of 49 megapixels and 100 scans": lambda: _jpeg_of_scans(7000, 100),
        "bmp of many run lengths": lambda: make_bmp(
            7000, 7000, 8, b"\1\5" * (LARGE // 2), palette=_palette(), compression=1
        ),
        "bmp of empty run length rows": lambda: make_bmp(
            7000, 7000, 8, b"\1\5\0\0" * 7000, palette=_palette(), compression=1
        ),
        "bmp of run lengths of 4 bits": lambda: make_bmp(
            7000,
            7000,
            4,
            (b"\xff\x12" * 27 + b"\x73\x12\0\0") * 7000,
            palette=_palette(16),
            compression=2,
        ),
    }
    for name, build in cases.items():
        yield HostileImage(name, build, TooManyPixels)
    jumps = {
        "tiff of 2**62 pixels": lambda: make_tiff(_tiff_size(2**31 - 1, 2**31 - 1), bytes(64)),
        "tiff of 4 gigapixels": lambda: make_tiff(_tiff_size(65_535, 65_535), bytes(64)),
        "ppm of 10**18 pixels": lambda: b"P6 999999999 999999999 255\n" + bytes(64),
        "ppm in text": lambda: b"P3 2000 2000 255\n" + b"1 " * 1_000_000,
        "ppm of odd depth": lambda: b"P6 2000 2000 100\n" + bytes(12_000_000),
        "jpeg 2000 of 2**62 pixels": lambda: _jpeg_2000_of_size(2**31 - 1, 2**31 - 1),
    }
    for name, build in jumps.items():
        yield HostileImage(name, build, TooManyPixels, on_request=True)


def _palette(colours: int = 256) -> bytes:
    return b"".join(bytes([i * 255 // (colours - 1), 0, 99, 0]) for i in range(colours))


def _tiff_size(width: int, height: int) -> dict[int, tuple[int, list[int]]]:
    tags = {tag: (kind, list(values)) for tag, (kind, values) in tiff_tags(1, 1, 1, [8]).items()}
    return {**tags, 256: (4, [width]), 257: (4, [height]), 278: (4, [height])}


def _jpeg_2000_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=True))
    data[8:16] = struct.pack(">II", width, height)
    return bytes(data)


def _heavy_metadata() -> Iterator[HostileImage]:
    megabyte = zlib.compress(bytes(1_000_000), 9)
    bomb = zlib.compress(bytes(20_000_000), 9)

    def png(*chunks: tuple[bytes, bytes]) -> bytes:
        return make_png(1, 1, 8, 0, b"\0", chunks=chunks)

    exif = encode_exif({ExifTags.Base.Orientation: 6, ExifTags.Base.ImageDescription: "x" * 60_000})
    heavy: dict[str, tuple[Callable[[], bytes], type[ImageError] | None]] = {
        "png with 20 MB in compressed text": (lambda: png((b"zTXt", b"a\0\0" + bomb)), BrokenImage),
        "png with 20 MB in international text": (
            lambda: png((b"iTXt", b"a\0\1\0\0\0" + bomb)),
            BrokenImage,
        ),
        "png with a profile of 20 MB": (lambda: png((b"iCCP", b"a\0\0" + bomb)), BrokenImage),
        "png with 100 MB in many texts": (
            lambda: png(*((b"zTXt", b"a%d\0\0" % i + megabyte) for i in range(100))),
            BrokenImage,
        ),
        "png with many profiles": (
            lambda: png(*((b"iCCP", b"a\0\0" + megabyte) for _ in range(2000))),
            BrokenImage,
        ),
        "png with 60 MB in many texts": (
            lambda: png(*((b"zTXt", b"a%d\0\0" % i + megabyte) for i in range(60))),
            None,
        ),
        "png with 5 MB of plain text": (lambda: png((b"tEXt", b"a\0" + b"x" * LARGE)), None),
        "png of tiny chunks": (lambda: png(*[(b"abCd", b"")] * (LARGE // 12)), BrokenImage),
        "png of tiny chunks behind its pixels": (
            lambda: make_png(1, 1, 8, 0, b"\0", last_chunks=[(b"abCd", b"")] * (LARGE // 12)),
            BrokenImage,
        ),
        "png of empty pixel chunks": (lambda: png(*[(b"IDAT", b"")] * (LARGE // 12)), BrokenImage),
        "png with profile in damaged zlib": (lambda: png((b"iCCP", b"a\0\0garbage")), None),
        "png with an endless profile name": (lambda: png((b"iCCP", b"a" * 70_000)), BrokenImage),
        "jpeg of tiny comments": (lambda: with_segments(segment(0xFE) * (LARGE // 4)), BrokenImage),
        "jpeg of tiny segments": (lambda: with_segments(segment(0xE5) * (LARGE // 4)), BrokenImage),
        "jpeg of padding": (lambda: with_segments(b"\xff" * LARGE), BrokenImage),
        "jpeg of junk between segments": (
            lambda: with_segments(segment(0xFE) + bytes(LARGE)),
            BrokenImage,
        ),
        "jpeg of exif in many parts": (
            lambda: with_segments(
                segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 30
                + segment(0xE1, b"Exif\0\0\0") * 100_000
            ),
            BrokenImage,
        ),
        "jpeg with 6 MB of exif": (
            lambda: with_segments(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 90),
            None,
        ),
        "jpeg with 6 MB in a profile": (
            lambda: with_segments(
                b"".join(
                    segment(0xE2, b"ICC_PROFILE\0" + bytes([i + 1, 90]) + bytes(65_000))
                    for i in range(90)
                )
            ),
            None,
        ),
        "jpeg with a long description": (lambda: with_segments(segment(0xE1, exif)), None),
        "exif with 5,000 tags": (lambda: with_segments(segment(0xE1, _exif_of_tags(5000))), None),
        "exif that is its own next": (
            lambda: with_segments(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08")),
            None,
        ),
        "exif that contains itself": (lambda: with_segments(segment(0xE1, _exif_in_exif())), None),
        "gif with a long comment": (lambda: _gif(_gif_comment(255), (4, 4), screen=(4, 4)), None),
        "gif with a comment in bytes": (
            lambda: _gif(_gif_comment(1), (4, 4), screen=(4, 4)),
            BrokenImage,
        ),
        "gif of junk": (lambda: _gif(bytes(LARGE) + b",", (4, 4), screen=(4, 4)), BrokenImage),
        "webp with 5 MB of exif": (
            lambda: encode(Image.new("RGB", (9, 9)), "WEBP", exif=b"Exif\0\0" + bytes(LARGE)),
            None,
        ),
        "webp with 5 MB in a profile": (
            lambda: encode(Image.new("RGB", (9, 9)), "WEBP", icc_profile=bytes(LARGE)),
            None,
        ),
    }
    for name, (build, expected) in heavy.items():
        yield HostileImage(name, build, expected)


def encode_exif(values: dict[int, object]) -> bytes:
    exif = Image.Exif()
    for tag, value in values.items():
        exif[tag] = value
    return exif.tobytes()


def _exif_of_tags(count: int) -> bytes:
    entries = b"".join(struct.pack(">HHII", 40_000 + i, 3, 1, 0) for i in range(count))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", count) + entries + bytes(4)


def _exif_in_exif() -> bytes:
    """The pointers to the EXIF, GPS and sub-directories lead back to the directory they are in."""
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, 8) for tag in (330, 34_665, 34_853))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 3) + entries + struct.pack(">I", 8)


def _gif_comment(length: int) -> bytes:
    block = bytes([length]) + b"x" * length
    return b"!\xfe" + block * (LARGE // (length + 1)) + b"\0,"


def _broken_png() -> Iterator[HostileImage]:
    png = small()
    start = png.index(b"IDAT")
    cases: dict[str, bytes] = {
        "png with a wrong checksum in its header": png[:29] + b"\0\0\0\0" + png[33:],
        "png without pixels": png[: start - 4] + png_chunk(b"IEND", b""),
        "png without a header": png[:8] + png[33:],
        "png of zlib garbage just under the limit": _png_with(7071, 7071, b"\x78\x9c" + bytes(99)),
        "png with pixels missing": _png_with(7000, 7000, zlib.compress(bytes(7000))),
        "png of no width": _png_with(0, 9, zlib.compress(b"")),
        "png of no size": _png_with(0, 0, zlib.compress(b"")),
        "png of an unknown colour type": _png_with(9, 9, zlib.compress(bytes(99)), 5),
        "png with a chunk of 2 GB": png[: start - 4] + b"\x7f\xff\xff\xffIDAT" + png[start + 4 :],
        "png with a negative chunk": png[: start - 4] + b"\xff\xff\xff\xffIDAT" + png[start + 4 :],
        "png with a chunk that has no name": png[: start - 4] + bytes(8) + png[start + 4 :],
        "png with a palette that is missing": make_png(4, 1, 8, 3, b"\1\2\3\4"),
        "png with a short transparent colour": make_png(
            1, 1, 8, 2, bytes(3), chunks=[(b"tRNS", b"\0")]
        ),
    }
    for name, content in cases.items():
        # The length of a chunk of pixels does not matter where its pixels are all there.
        expected = None if "a chunk of 2 GB" in name or "negative chunk" in name else BrokenImage
        yield HostileImage(name, partial(bytes, content), expected)
    damaged = bytearray(png)
    damaged[start + 40 : start + 60] = bytes(20)
    yield HostileImage("png with damaged pixels", partial(bytes, damaged), BrokenImage)


def _broken_jpeg() -> Iterator[HostileImage]:
    jpeg = small("JPEG")
    scan = jpeg.index(b"\xff\xda")
    cases: dict[str, bytes] = {
        "jpeg of no width": _jpeg_of_size(0, 9),
        "jpeg of no height": _jpeg_of_size(9, 0),
        "jpeg of 12 bits": _jpeg_of_size(48, 64, bits=12),
        "jpeg without a scan": jpeg[:scan] + b"\xff\xd9",
        "jpeg of a signature": jpeg[:3],
        "jpeg with two frames": jpeg[:scan] + jpeg[jpeg.index(b"\xff\xc0") :],
        "jpeg without tables": jpeg[:20] + jpeg[jpeg.index(b"\xff\xc0") :],
    }
    for name, content in cases.items():
        yield HostileImage(name, partial(bytes, content), BrokenImage)


def _broken_gif_and_webp() -> Iterator[HostileImage]:
    webp = small("WEBP")
    cases: dict[str, bytes] = {
        "gif without frames": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";",
        "gif and script": b"GIF89a/*" + bytes(20) + b"*/=alert(1)//",
        "gif of no size": _gif(b",", (0, 0), screen=(0, 0)),
        "gif with pixels missing": _gif(b",", (7000, 7000), screen=(7000, 7000)),
        "gif of wrong codes": _gif(b",", (4, 4), screen=(4, 4))[:29] + b"\x0d\3\xff\xff\xff\0;",
        "webp with a wrong kind of chunk": webp[:12] + b"ABCD" + webp[16:],
        "webp of zeros": webp[:16] + bytes(len(webp) - 16),
        "webp canvas without frames": _webp_canvas(9, 9),
    }
    for name, content in cases.items():
        yield HostileImage(name, partial(bytes, content), BrokenImage)


def _broken_bmp() -> Iterator[HostileImage]:
    cases: dict[str, bytes] = {
        "bmp of no width": make_bmp(0, 9, 24, bytes(99)),
        "bmp of no height": make_bmp(9, 0, 24, bytes(99)),
        "bmp of 3 bits": make_bmp(9, 9, 3, bytes(99)),
        "bmp of unknown compression": make_bmp(9, 9, 24, bytes(99), compression=9),
        "bmp with a jpeg inside": make_bmp(9, 9, 24, bytes(99), compression=4),
        "bmp of odd masks": make_bmp(9, 9, 32, bytes(999), compression=3, masks=(1, 2, 4)),
        "bmp with pixels missing": make_bmp(2000, 2000, 24, bytes(99)),
        "bmp with an endless palette": _bmp_colours(2**32 - 1),
        "bmp of run lengths that end early": make_bmp(
            99, 99, 8, b"\0\1", palette=_palette(), compression=1
        ),
    }
    for name, content in cases.items():
        yield HostileImage(name, partial(bytes, content), BrokenImage)


def _bmp_colours(colours: int) -> bytes:
    data = bytearray(make_bmp(9, 9, 8, bytes(999)))
    data[46:50] = struct.pack("<I", colours)
    return bytes(data)


def _tiff() -> Iterator[HostileImage]:
    tags = tiff_tags(8, 8, 1, [8])
    tiff = make_tiff(tags, bytes(64))
    cases: dict[str, tuple[Callable[[], bytes], type[ImageError] | None]] = {
        "tiff that is its own next": (lambda: tiff[:-4] + struct.pack("<I", 72), None),
        "tiff with its directory outside": (lambda: tiff[:4] + b"\xff" * 4 + tiff[8:], BrokenImage),
        "tiff without size": (lambda: make_tiff({262: (3, [1])}, bytes(64)), BrokenImage),
        "tiff of 60,000 tags": (lambda: _tiff_of_tags(60_000), BrokenImage),
        "tiff of a million tiles": (lambda: _tiff_of_tiles(1_000_000), BrokenImage),
        "tiff of unknown compression": (
            lambda: make_tiff({**tags, 259: (3, [60_000])}, bytes(64)),
            BrokenImage,
        ),
        "tiff of 1,000 channels": (
            lambda: make_tiff({**tags, 277: (3, [1000])}, bytes(64)),
            BrokenImage,
        ),
        "tiff of no size": (lambda: make_tiff(_tiff_size(0, 0), bytes(64)), BrokenImage),
        "tiff with pixels missing": (
            lambda: make_tiff(_tiff_size(2000, 2000), bytes(64)),
            BrokenImage,
        ),
        "tiff of orientation 99": (lambda: make_tiff({**tags, 274: (3, [99])}, bytes(64)), None),
        "bigtiff of nothing": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8, BrokenImage),
    }
    for name, (build, expected) in cases.items():
        yield HostileImage(name, build, expected, on_request=True)


def _tiff_of_tags(count: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", i, 3, 1, 1) for i in range(count))
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4)


def _tiff_of_tiles(count: int) -> bytes:
    tags = {**tiff_tags(8, 8, 1, [8]), 278: (3, [1])}
    tiff = bytearray(make_tiff(tags, bytes(64)))
    place = tiff.index(struct.pack("<HHI", 273, 4, 1))
    tiff[place : place + 12] = struct.pack("<HHII", 273, 4, count, len(tiff))
    return bytes(tiff) + struct.pack("<I", 8) * count


def _on_request() -> Iterator[HostileImage]:
    avif = small("AVIF")
    jpeg_2000 = small("JPEG2000")
    cases: dict[str, bytes] = {
        "avif without its item": avif.replace(b"iloc", b"iloc\xff"),
        "avif with an empty item": _avif_item_of_no_bytes(),
        "avif that counts time in zeroths": _avif_without_time(),
        "avif of nothing": avif[:32] + bytes(99),
        "avif with damaged pixels": avif[: avif.index(b"mdat") + 4] + b"\xff" * 400,
        "jpeg 2000 of nothing": jpeg_2000[:12] + bytes(99),
        "jpeg 2000 with damaged pixels": jpeg_2000[:200] + b"\xff" * 400,
        "jpeg 2000 of no size": _jpeg_2000_of_size(0, 0),
        "ppm of no size": b"P6 0 0 255\n",
        "ppm of negative size": b"P6 -5 -5 255\n" + bytes(99),
        "ppm of depth 0": b"P6 5 5 0\n" + bytes(99),
        "ppm of letters": b"P6 five 5 255\n" + bytes(99),
        "ppm with a long number": b"P6 " + b"1" * 5000 + b" 5 255\n",
        "ppm that is all comment": b"P6 #" + b"x" * 100_000,
        "ppm in text that is none": b"P3 5 5 255\n" + b"x " * 75,
    }
    for name, content in cases.items():
        yield HostileImage(name, partial(bytes, content), BrokenImage, on_request=True)


def _avif_item_of_no_bytes() -> bytes:
    avif = bytearray(small("AVIF"))
    place = avif.index(b"iloc") + 30
    avif[place : place + 4] = bytes(4)
    return bytes(avif)


def _avif_without_time() -> bytes:
    first, second = photograph(1, 48, 64), photograph(2, 48, 64)
    avif = bytearray(encode(first, "AVIF", save_all=True, append_images=[second]))
    time_scale = avif.index(b"mdhd") + 24
    avif[time_scale : time_scale + 4] = bytes(4)
    return bytes(avif)
