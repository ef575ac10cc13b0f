"""An orientation that stands in XMP alone does not turn the picture, in any format.

Browsers go by EXIF. XMP is often left over from before an editor turned the pixels.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import ImageLimits, decode_image, open_image
from tests.images import Pixels, encode, photograph, png_chunk
from tests.server import Server
from tests.training.conftest import decoded_pixels

SIZE = (8, 12)
PHOTOGRAPH = photograph(1, 48, 64)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
LIMITS = ImageLimits(formats=READABLE_FORMATS)


def exif(orientation: int | None) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "a camera"
    if orientation:
        tags[ExifTags.Base.Orientation] = orientation
    return tags.tobytes()


def png(xmp: bytes, exif: bytes = b"") -> bytes:
    text = PngInfo()
    if xmp:
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return encode(PHOTOGRAPH, "PNG", pnginfo=text, exif=exif)


def png_with_xmp_behind(xmp: bytes, exif: bytes = b"") -> bytes:
    data = png(b"", exif)
    chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp) if xmp else b""
    return data[:-12] + chunk + data[-12:]


def tiff(xmp: bytes, exif: bytes = b"") -> bytes:
    tags: dict[int, object] = {700: xmp} if xmp else {}
    if exif:
        with Image.open(io.BytesIO(encode(PHOTOGRAPH, "PNG", exif=exif))) as image:
            tags |= {tag: value for tag, value in image.getexif().items() if tag == 274}
    return encode(PHOTOGRAPH, "TIFF", tiffinfo=tags)


def without_jfif(jpeg: bytes) -> bytes:
    """Pillow then looks into EXIF for the density, and finds XMP's orientation on its way."""
    assert jpeg[2:11] == b"\xff\xe0\0\x10JFIF\0"
    return jpeg[:2] + jpeg[20:]


def written(image_format: str, **options: object) -> Callable[[bytes, bytes], bytes]:
    return lambda xmp, exif: encode(PHOTOGRAPH, image_format, xmp=xmp, exif=exif, **options)


WRITERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "JPEG": written("JPEG"),
    "JPEG without JFIF": lambda xmp, exif: without_jfif(written("JPEG")(xmp, exif)),
    "progressive JPEG": written("JPEG", progressive=True),
    "PNG": png,
    "PNG with it behind the pixels": png_with_xmp_behind,
    "WEBP": written("WEBP", lossless=True),
    "TIFF": tiff,
    "AVIF": written("AVIF"),
}


def pixels(data: bytes) -> Pixels:
    return decode_image(data, SIZE, limits=LIMITS).pixels


@pytest.mark.parametrize("kind", WRITERS)
def test_exif_alone_turns(kind: str) -> None:
    write = WRITERS[kind]
    upright, turned = pixels(write(b"", b"")), pixels(write(b"", exif(6)))
    assert np.abs(upright.astype(int) - turned).mean() > 5
    for given in (b"", exif(None), exif(1)):
        data = write(XMP, given)
        assert b'tiff:Orientation="6"' in data
        np.testing.assert_array_equal(pixels(data), upright)
        assert open_image(data, LIMITS).upright_size() == (48, 64)
    np.testing.assert_array_equal(pixels(write(XMP.replace(b'"6"', b'"3"'), exif(6))), turned)
    assert open_image(write(XMP, exif(6)), LIMITS).upright_size() == (64, 48)


def test_training_reads_the_same(tmp_path: Path) -> None:
    paths = []
    for number, write in enumerate(WRITERS.values()):
        for given in (b"", XMP):
            paths.append(tmp_path / f"{number}{len(given)}")
            paths[-1].write_bytes(write(given, b""))
    read = decoded_pixels(paths, SIZE)
    for without, with_it in zip(read[::2], read[1::2], strict=True):
        np.testing.assert_array_equal(with_it, without)


def test_requests(server: Server) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        upright, with_xmp = (server.post("/predict", WRITERS[kind](xmp, b"")) for xmp in (b"", XMP))
        assert upright.status == 200
        assert with_xmp.body == upright.body
