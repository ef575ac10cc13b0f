"""From a request's body to the bytes of its image, or of its images."""

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

from service.serving.errors import (
    BadBody,
    BodyTooLarge,
    MissingImage,
    TooManyFiles,
    UnsupportedCoding,
    WrongMediaType,
)

MULTIPART = "multipart/form-data"

# Types that say that the bytes are no image. All others leave that to the bytes: image types, none,
# and the many words for bytes (application/octet-stream, binary/octet-stream, curl's default).
_OTHER = re.compile(
    r"[^/]+|(text|audio|video|font|model|message|multipart)/.*|.*[/+](json|xml|pdf|zip|javascript)"
)
# Types that a form's text field may name.
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/x-www-form-urlencoded")
# Transfer encodings of a form's part that leave its bytes as they are.
_PLAIN_TRANSFER = ("binary", "8bit", "7bit")
_TEXT_PARTS = 32
# A part that is sent as text is easily taken for one that is sent as a file.
NO_FILE = (
    "the form holds no file: send the image as a part with a file name, or with an image's type"
)
# Of a coding that a refusal names.
_NAMED_CHARACTERS = 100
_PIECE = 256 * 1024
# How a schema of JSON says that a string is base64 (``byte`` is OpenAPI's word).
BASE64_SCHEMA = {"format": "byte", "contentEncoding": "base64"}
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\f\v"


@dataclass(frozen=True)
class Upload:
    """One file: its name as the client gave it, its bytes, and how they are said to be coded.

    Bytes of the name that are no UTF-8 are U+FFFD.
    """

    filename: str
    data: bytes
    codings: tuple[str, ...] = ()

    def image(self) -> bytes:
        """The bytes, as long as they are the image's own.

        Raises:
            UnsupportedCoding: its part says that they are compressed or encoded.
        """
        check_codings(self.codings)
        return self.data


def check_media_type(content_type: str | None, *, multipart_only: bool = False) -> bool:
    """Whether the declared type is multipart.

    Raises:
        WrongMediaType: the type says that the body is no image (or no multipart, where only that
            is taken).
    """
    declared, says_other = _declared(content_type or "")
    if declared == MULTIPART:
        return True
    if multipart_only or says_other:
        single = f"an image's bytes as image/…, {MULTIPART}, or its base64 text in application/json"
        wanted = MULTIPART if multipart_only else single
        raise WrongMediaType(f"the body is declared as {declared or 'nothing'}, send {wanted}")
    return False


def is_json(content_type: str) -> bool:
    """Whether the declared type is JSON."""
    return _declared(content_type)[0] == "application/json"


def base64_length(size: int) -> int:
    """How long so many bytes are in base64."""
    return -(-size // 3) * 4


def base64_image(text: str) -> bytes:
    """The bytes of an image in base64 (RFC 4648, both alphabets, padded or not), or a data URL.

    Raises:
        BadBody: it is neither.
    """
    _, comma, digits = text.partition(",") if text.startswith("data:") else ("", "", text)
    if text.startswith("data:") and not (comma and ";base64" in text[: len(text) - len(digits)]):
        raise BadBody("the data URL holds no base64: send data:image/…;base64,…")
    try:
        plain = digits.encode("ascii").translate(_URL_SAFE, _BLANKS).rstrip(b"=")
        return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)
    except ValueError as error:
        raise BadBody("the image is no base64 text: encode the image file's own bytes") from error


def check_codings(fields: Iterable[str]) -> None:
    """Refuse bytes that are not as they are: nothing is decompressed or decoded here.

    Args:
        fields: the values of all header fields that name codings; a value may be a list.

    Raises:
        UnsupportedCoding: one of them is not ``identity``.
    """
    codings = (word.strip().lower() for field in fields for word in field.split(","))
    found = [coding for coding in codings if coding not in ("", "identity")]
    if found:
        named = ", ".join(found)[:_NAMED_CHARACTERS]
        raise UnsupportedCoding(f"the bytes are declared as {named}: send them without a coding")


@lru_cache(maxsize=64)  # clients have few of them
def _declared(content_type: str) -> tuple[str, bool]:
    """A request's media type, and whether it says that the body is no image."""
    declared = media_type(content_type)
    return declared, _OTHER.fullmatch(declared) is not None


def media_type(content_type: str) -> str:
    """A declared type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def single_image(body: bytes, content_type: str | None) -> bytes:
    """The one image of a body, sent raw or as the only file of a multipart form.

    Raises:
        WrongMediaType: the declared type is neither an image nor a form.
        BadBody: the form cannot be taken apart.
        MissingImage: there is no image, or there are several.
    """
    data = body
    if check_media_type(content_type):
        files = uploads(body, content_type)
        if not files:
            raise MissingImage(NO_FILE)
        if len(files) != 1:
            raise MissingImage(f"the form holds {len(files)} files, send exactly one")
        data = files[0].image()
    if not data:
        raise MissingImage(
            "the request has no bytes: send the image file's own bytes, or a form with the file"
        )
    return data


def check_length(content_length: int | None, limit: int) -> None:
    """Refuse a body by its declared length.

    Raises:
        BodyTooLarge: it has more than ``limit`` bytes.
    """
    if content_length is not None and content_length > limit:
        raise BodyTooLarge(f"the body has {content_length} bytes, {limit} are allowed")


def check_image_bytes(data: bytes, max_image_bytes: int) -> None:
    """Refuse an image that is too large a file.

    Raises:
        BodyTooLarge: it has more than ``max_image_bytes``.
    """
    if len(data) > max_image_bytes:
        raise BodyTooLarge(f"the image has {len(data)} bytes, {max_image_bytes} are allowed")


def uploads(body: bytes, content_type: str | None, max_files: int = 1) -> list[Upload]:
    """All files of a multipart body, in order; text fields are skipped.

    A part is a file if it has a file name, or else a content type that is not one of text.

    Everything stays in memory: werkzeug's own form parser writes parts above 500 kB to temporary
    files, which a read-only container does not allow, and groups them by field name.

    Raises:
        BadBody: it cannot be taken apart.
        TooManyFiles: more than ``max_files`` and some text fields.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary:
        raise BadBody("the form's content type names no boundary: leave it to the HTTP library")
    decoder = _Decoder(boundary.encode(), max_parts=max_files + _TEXT_PARTS)
    try:
        found = _files(decoder, body)
    except RequestEntityTooLarge as error:
        raise TooManyFiles(f"the form has too many parts, {max_files} files are allowed") from error
    except ValueError as error:
        raise BadBody(f"the form cannot be taken apart: {error}") from error
    # An empty file field of a browser's form has neither name nor content.
    return [upload for upload in found if upload.filename or upload.data]


def _files(decoder: MultipartDecoder, body: bytes) -> list[Upload]:
    found: list[Upload] = []
    part: File | Field | None = None
    data: list[bytes] = []
    for event in _events(decoder, body):
        if isinstance(event, File | Field):
            part, data = event if _is_file(event) else None, []
        elif isinstance(event, Data) and part is not None:
            data.append(event.data)
            if not event.more_data:
                filename = part.filename if isinstance(part, File) else ""
                found.append(Upload(filename, b"".join(data), _codings(part)))
    return found


def _is_file(part: File | Field) -> bool:
    """Whether it has a file name, or the content type of a file that nobody has named."""
    declared = media_type(part.headers.get("Content-Type", ""))
    return isinstance(part, File) or bool(declared and not _TEXT.fullmatch(declared))


def _codings(part: File | Field) -> tuple[str, ...]:
    """How a part is said to be coded; ``Content-Transfer-Encoding`` is that of mail."""
    transfer = part.headers.getlist("Content-Transfer-Encoding")
    some = [value for value in transfer if value.lower() not in _PLAIN_TRANSFER]
    return *part.headers.getlist("Content-Encoding"), *some


class _Decoder(MultipartDecoder):
    """Werkzeug's, for which a part's header that is no UTF-8 would be the end of the form."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        return super()._parse_headers(data.decode(errors="replace").encode())


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    # In pieces, so that the decoder's own copy stays small.
    for start in range(0, len(body) + _PIECE, _PIECE):
        decoder.receive_data(body[start : start + _PIECE] or None)  # None: the end
        event = decoder.next_event()
        while not isinstance(event, NeedData | Epilogue):
            yield event
            event = decoder.next_event()
