"""From a request's body to the bytes of its image, or of its images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

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

from service.serving.errors import BadBody, BodyTooLarge, MissingImage, TooManyFiles, WrongMediaType

MULTIPART = "multipart/form-data"

# Types that say nothing of the bytes: none, the general one, and curl --data-binary's default.
_UNDECLARED = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_TEXT_PARTS = 32
_PIECE = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """One file: its name as the client gave it, and its bytes."""

    filename: str
    data: bytes


def check_media_type(content_type: str | None, *, multipart_only: bool = False) -> bool:
    """Whether the declared type is multipart.

    Raises:
        WrongMediaType: the type says that the body is no image (or no multipart, where only that
            is taken).
    """
    declared = _declared(content_type or "")
    if declared == MULTIPART:
        return True
    image = declared.startswith("image/") and declared != "image/svg+xml"
    if multipart_only or not (image or declared in _UNDECLARED):
        wanted = MULTIPART if multipart_only else f"an image type, or {MULTIPART}"
        raise WrongMediaType(f"the body is declared as {declared or 'nothing'}, send {wanted}")
    return False


@lru_cache(maxsize=64)  # clients have few of them
def _declared(content_type: str) -> str:
    return parse_options_header(content_type)[0].lower()


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
        if len(files) != 1:
            raise MissingImage(f"the form holds {len(files)} files, send exactly one")
        data = files[0].data
    if not data:
        raise MissingImage("the request holds no image")
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

    Everything stays in memory: werkzeug's own form parser writes parts above 500 kB to temporary
    files, which a read-only container does not allow, and groups them by field name.

    Raises:
        BadBody: it cannot be taken apart.
        TooManyFiles: more than ``max_files`` and some text fields.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary:
        raise BadBody("the form's content type names no boundary")
    decoder = MultipartDecoder(boundary.encode(), max_parts=max_files + _TEXT_PARTS)
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
    part: File | None = None
    data: list[bytes] = []
    for event in _events(decoder, body):
        if isinstance(event, File):
            part, data = event, []
        elif isinstance(event, Field):
            part = None
        elif isinstance(event, Data) and part is not None:
            data.append(event.data)
            if not event.more_data:
                found.append(Upload(part.filename, b"".join(data)))
    return found


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    # In pieces, so that the decoder's own copy stays small.
    for start in range(0, len(body) + _PIECE, _PIECE):
        decoder.receive_data(body[start : start + _PIECE] or None)  # None: the end
        event = decoder.next_event()
        while not isinstance(event, NeedData | Epilogue):
            yield event
            event = decoder.next_event()
