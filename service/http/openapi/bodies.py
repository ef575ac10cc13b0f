"""The bodies of requests, and what the routes that take images refuse."""

from service.http.openapi import examples
from service.http.openapi.operations import JsonObject, reference
from service.inference.errors import (
    BrokenImage,
    EmptyImage,
    InvalidAnswer,
    TooManyPixels,
    UnsupportedFormat,
)
from service.inference.formats import MEDIA_TYPES
from service.serving.errors import (
    BadBody,
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    MissingImage,
    NotReady,
    TooManyFiles,
    UnknownModel,
    UnsupportedCoding,
)
from service.serving.uploads import MULTIPART
from service.settings import Settings

BYTES = "application/octet-stream"

# What the routes that take images refuse, and what they refuse an image for.
REQUEST_ERRORS = (
    BadBody,
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    MissingImage,
    NotReady,
    TooManyFiles,
    UnknownModel,
    UnsupportedCoding,
)
IMAGE_ERRORS = (BrokenImage, EmptyImage, InvalidAnswer, TooManyPixels, UnsupportedFormat)


def binary(media_type: str) -> JsonObject:
    """Bytes of a media type.

    ``contentMediaType`` is the way of OpenAPI 3.1; generators of clients know ``format: binary``.
    """
    return {"type": "string", "format": "binary", "contentMediaType": media_type}


def image_body(settings: Settings, in_json: JsonObject) -> JsonObject:
    """One image: raw, in a form, or in JSON."""
    content = {name: {"schema": binary(name)} for name in (*_media_types(settings), BYTES)}
    content[MULTIPART] = _form(settings, "image", binary(BYTES))
    return {
        "description": f"An image of at most {settings.max_image_bytes:,} bytes.",
        "required": True,
        "content": content | in_json,
    }


def files_body(settings: Settings) -> JsonObject:
    """A form of images."""
    count = {"minItems": 1, "maxItems": settings.max_batch_files}
    files = {"type": "array", "items": binary(BYTES), **count}
    return {
        "description": f"Images of at most {settings.max_image_bytes:,} bytes,"
        f" {settings.max_batch_bytes:,} in all.",
        "required": True,
        "content": {MULTIPART: _form(settings, "images", files)},
    }


def json_body(settings: Settings, *names: str) -> JsonObject:
    """JSON with the schema of one of these names, and their examples."""
    return {
        "description": f"At most {settings.max_batch_files} images,"
        f" {settings.max_batch_bytes:,} bytes in all.",
        "required": True,
        "content": json_of(*names),
    }


def json_of(*names: str) -> JsonObject:
    """The content of such a body."""
    schemas = [reference("schemas", name) for name in names]
    schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    shown = {name: {"value": examples.REQUESTS[name]} for name in names}
    return {"application/json": {"schema": schema, "examples": shown}}


def _form(settings: Settings, field: str, files: JsonObject) -> JsonObject:
    """A form; the service takes files of any field's name."""
    return {
        "schema": {"type": "object", "properties": {field: files}, "required": [field]},
        "encoding": {field: {"contentType": ", ".join(_media_types(settings))}},
    }


def _media_types(settings: Settings) -> list[str]:
    return [MEDIA_TYPES[name] for name in settings.formats]
