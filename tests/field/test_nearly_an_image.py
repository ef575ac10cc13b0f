"""What clients send by mistake in place of an image: they are told what it is, and what to send."""

import base64
import re

import pytest
from PIL import Image

from service.inference.errors import ImageError
from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import ImageLimits, decode_image
from tests.images import encode, photograph
from tests.server import Server, assert_problem, multipart

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
PHOTOGRAPH = photograph(1, 30, 40)
FILES = {name: encode(PHOTOGRAPH, name) for name in FORMATS}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


def stripped(data: bytes) -> bytes:
    """As ``curl -d @file`` sends it."""
    return re.sub(rb"[\0\r\n]", b"", data)


def detail_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, (8, 8))
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


@pytest.mark.parametrize("name", FORMATS)
def test_text_of_an_image(name: str) -> None:
    data = FILES[name]
    plain = base64.b64encode(data)
    for text in (
        plain,
        base64.encodebytes(data),
        base64.urlsafe_b64encode(data),
        plain.rstrip(b"="),
        b'"' + plain + b'"',
        b"b'" + plain + b"'",
        b"\xef\xbb\xbf\r\n" + plain,
    ):
        assert f"base64 text of a {name} image" in detail_of(text)
    assert f"hexadecimal text of a {name} image" in detail_of(data.hex().encode())
    assert "a data URL" in detail_of(b"data:image/png;base64," + plain)
    assert "Python" in detail_of(repr(data).encode())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(9, 7), (40, 30), (400, 300)])
def test_bytes_that_were_read_as_text(name: str, size: tuple[int, int]) -> None:
    data = encode(PHOTOGRAPH.resize(size), name)
    for text in (data.decode(errors="replace"), data.decode("latin-1")):
        assert "read as text on its way" in detail_of(text.encode())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("size", [(9, 7), (40, 30), (400, 300)])
def test_bytes_that_were_stripped_are_refused(name: str, size: tuple[int, int]) -> None:
    data = encode(PHOTOGRAPH.resize(size), name)
    assert "line ends: send the file's bytes unchanged" in detail_of(stripped(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "an HTML page"),
        (b"\n\n<HTML lang='en'>", "an HTML page"),
        (b'{"image": "iVBORw0KGgo="}', "JSON"),
        (b"[137, 80, 78, 71]", "JSON"),
        (b"[object File]", "JavaScript"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg/>", "SVG"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a video"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1", "a video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"PK\3\4\x14\0", "a ZIP archive"),
        (b"image=iVBORw0KGgo%3D", "a form's text fields"),
        (b"https://example.org/cat.jpg", "an address"),
        (b"cat.jpg", "text"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n', "a form that is not declared"),
        ("\ufeffcat".encode("utf-16-le"), "UTF-16"),
        (b"\0\1\2\3\xfe", "no image that is read here"),
    ],
)
def test_what_it_is(data: bytes, words: str) -> None:
    assert words in detail_of(data)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (8, 8), (189, 191, 239)),  # its pixels are EF BF BD, U+FFFD in UTF-8
        Image.new("RGB", (8, 8), (169, 195, 169)),  # C3 A9, é
        Image.new("P", (1, 1)),
    ],
)
@pytest.mark.parametrize("name", [*FORMATS, "PPM", "TIFF"])
def test_good_images_that_could_be_text_are_answered(image: Image.Image, name: str) -> None:
    data = encode(image.convert("RGB") if name in ("JPEG", "WEBP", "PPM") else image, name)
    limits = ImageLimits(formats=READABLE_FORMATS)
    assert decode_image(data, (8, 8), limits=limits).pixels.shape == (8, 8, 3)


def test_over_http_alone_and_in_a_batch(server: Server) -> None:
    encoded = base64.b64encode(FILES["PNG"])
    reply = server.post("/predict", encoded)
    problem = assert_problem(reply, 415, "unsupported-format")
    assert "base64 text of a PNG image" in problem["detail"]
    body, headers = multipart(("a", "a.png", encoded), ("b", "b.png", FILES["PNG"]))
    bad, good = server.post("/predict/batch", body, headers).json()["results"]
    assert bad["problem"]["detail"] == problem["detail"]
    assert good["predictions"]


@pytest.mark.parametrize("name", FORMATS)
def test_curl_d_over_http(server: Server, name: str) -> None:
    reply = server.post("/predict", stripped(FILES[name]), URLENCODED)
    assert reply.status in (415, 422)
    assert "--data-binary" in reply.json()["detail"]
    assert server.post("/predict", FILES[name], URLENCODED).status == 200


def test_no_bytes_at_all(server: Server) -> None:
    problem = assert_problem(server.post("/predict", b""), 400, "missing-image")
    assert "send" in problem["detail"]
