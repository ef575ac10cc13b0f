"""What bytes are that are nearly an image, in words for those who sent them.

Nothing is repaired or converted: what came is refused, and the refusal says what to send instead.
"""

import base64
import codecs
import re

from service.inference.formats import detect_format

# As much of the bytes as is looked at, where that is enough.
_HEAD_BYTES = 1024
_ENCODED_BYTES = 64
# What decoders put in the place of bytes that are no UTF-8.
_REPLACED = "\ufffd".encode()
# Formats that begin with text. A file of theirs is none as a whole, but for a BMP of one colour,
# which is as long as it says.
_BEGIN_AS_TEXT = ("WEBP", "GIF", "BMP")
# Where some formats say how long the file is: the place of four bytes, and what they leave out.
_LENGTHS = {"BMP": (2, 0), "WEBP": (4, 8)}
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f]")

_ITSELF = "send the image file's own bytes"
_JSON = 'JSON as application/json: {"image": "<base64>"}'
_UNCHANGED = "send the file's bytes unchanged (read as binary; curl --data-binary or -F, not -d)"
_STRIPPED = f"without its zero bytes and line ends: {_UNCHANGED}"
_READ_AS_TEXT = f"that was read as text on its way: {_UNCHANGED}"

_BINARY = (
    (rb"....ftyp(iso|mp4|M4|qt|3g|avc|dash|MSN|f4v)", "a video (MP4 or QuickTime): send an image"),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI ", "a video (Matroska, WebM or AVI): send an image"),
    (rb"\x1f\x8b", f"compressed by gzip: {_ITSELF}"),
    (rb"PK\x03\x04", f"a ZIP archive: {_ITSELF}"),
    (rb"\x89PNG(?!\r\n\x1a\n)", f"a PNG image without its line ends: {_UNCHANGED}"),
    (rb"\xff\xfe", f"text in UTF-16, as PowerShell's > writes it: {_ITSELF}"),
)
_TEXTS = (
    (rb"data:[\w.+/;=-]*,", f"a data URL: send the bytes that it holds, decoded, or {_JSON}"),
    (
        rb"--.*\ncontent-disposition:",
        "a form that is not declared as one: leave Content-Type to the HTTP library",
    ),
    (rb"<(!doctype html|html|head|body)\b", f"an HTML page: {_ITSELF}"),
    (rb"<\?xml(?!.*<svg)", f"XML: {_ITSELF}"),
    (rb"\[object ", "a JavaScript object's name: send the Blob or File itself"),
    (rb"[{\[]", f"JSON that is not declared as application/json: {_ITSELF}, or {_JSON}"),
    (rb"b['\"]", "text that Python shows for bytes: send the bytes themselves"),
    (rb"(https?|file|s3|gs)://", f"an address, and nothing is fetched from it: {_ITSELF}"),
    (rb"[\w.%+-]{1,64}=", "a form's text fields: send the image as a file (curl -F image=@FILE)"),
)


def described(data: bytes) -> str | None:
    """What bytes are that begin like no image, and what to send; None if that is not known.

    It goes on behind "the bytes are".
    """
    head = data[:_HEAD_BYTES]
    if head.startswith(b"RIFF") and _is_stripped(data):
        return f"a WEBP image {_STRIPPED}"
    if found := _first(_BINARY, head):
        return found
    if not _is_utf8(head):
        return None
    binary = _CONTROLS.search(head) is not None
    if _REPLACED in head or (binary and not head.isascii()):
        return f"an image {_READ_AS_TEXT}"
    return None if binary else _described_text(head)


def damage(data: bytes, image_format: str) -> str | None:
    """How bytes that begin like an image were changed on their way, so that they are none any more.

    Pillow shows some of them, in wrong colours. All formats but PPM have zero bytes in their
    headers. The words go on behind "the bytes are".
    """
    if image_format != "PPM" and _is_stripped(data):
        return f"a {image_format} image {_STRIPPED}"
    if image_format not in _BEGIN_AS_TEXT:
        return None
    text = _is_utf8(data[:_HEAD_BYTES]) and not data.isascii() and _is_utf8(data)
    if text and not _has_its_length(data, image_format):
        return f"a {image_format} image {_READ_AS_TEXT}"
    return None


def _is_stripped(data: bytes) -> bool:
    """Whether bytes are missing that ``curl -d`` leaves out."""
    return b"\0" not in data and b"\n" not in data and b"\r" not in data


def _has_its_length(data: bytes, image_format: str) -> bool:
    if image_format not in _LENGTHS:
        return False
    start, left_out = _LENGTHS[image_format]
    return int.from_bytes(data[start : start + 4], "little") + left_out == len(data)


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", False)  # the end may be cut
    except UnicodeDecodeError:
        return False
    return True


def _first(table: tuple[tuple[bytes, str], ...], head: bytes) -> str | None:
    found = (words for begin, words in table if re.match(begin, head, re.DOTALL | re.IGNORECASE))
    return next(found, None)


def _described_text(head: bytes) -> str | None:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    encoded = _encoded_format(text)
    if encoded is not None:
        other = f", or {_JSON}" if encoded[0] == "base64" else ""
        return f"{encoded[0]} text of a {encoded[1]} image: send the image's bytes, decoded{other}"
    found = _first(_TEXTS, text)
    if found is None and detect_format(text) is None:  # those of PDF and SVG have names
        return f"text: {_ITSELF}"
    return found


def _encoded_format(text: bytes) -> tuple[str, str] | None:
    """The encoding and format of an image that is written as text."""
    digits = b"".join(re.sub(rb"^b?['\"]|['\"]$", b"", text).split())[:_ENCODED_BYTES]
    for name, decode in (("base64", base64.urlsafe_b64decode), ("hexadecimal", _from_hex)):
        try:
            found = detect_format(decode(digits))
        except ValueError:
            continue
        if found is not None:
            return name, found
    return None


def _from_hex(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode("ascii"))
