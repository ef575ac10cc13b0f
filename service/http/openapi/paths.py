"""The paths of the API, written by hand: what is asked, and what is answered."""

from service.http.openapi import examples
from service.http.openapi.operations import (
    JsonObject,
    Operation,
    answer,
    binary,
    json_answer,
    json_content,
    query,
    reference,
)
from service.http.predict import PREDICT, PREDICT_BATCH
from service.inference.errors import (
    BrokenImage,
    EmptyImage,
    InvalidAnswer,
    TooManyPixels,
    UnsupportedFormat,
)
from service.inference.formats import MEDIA_TYPES
from service.serving.auth import open_paths
from service.serving.errors import (
    BadBody,
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    MissingImage,
    NotReady,
    TooManyFiles,
    UnsupportedCoding,
    WrongMediaType,
)
from service.serving.uploads import MULTIPART
from service.settings import Settings

BYTES = "application/octet-stream"

# What the routes that take images refuse, and what they refuse an image for.
_REQUEST_ERRORS = (
    BadBody,
    BadParameter,
    BodyTimeout,
    BodyTooLarge,
    MissingImage,
    NotReady,
    TooManyFiles,
    UnsupportedCoding,
    WrongMediaType,
)
_IMAGE_ERRORS = (BrokenImage, EmptyImage, InvalidAnswer, TooManyPixels, UnsupportedFormat)

PARAMETERS: JsonObject = {
    "TopK": query(
        "top_k",
        "Only so many labels, the most probable ones; all labels without it.",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        3,
    ),
    "MinProbability": query(
        "min_probability",
        "Only labels with at least this probability; there may be none.",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        0.1,
    ),
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "An id for logs and the answer: up to 64 letters, digits, `.`, `_` and `-`."
        " Anything else is ignored. Without it, the trace id of `traceparent` is the id.",
        "schema": {"type": "string"},
        "example": examples.REQUEST_ID,
    },
}
_SELECTION = [reference("parameters", "TopK"), reference("parameters", "MinProbability")]


def paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """All operations, by path (without the root path) and method."""
    own = {
        PREDICT: {"post": _predict(settings)},
        PREDICT_BATCH: {"post": _predict_batch(settings)},
        "/model": {"get": _model(settings)},
        "/health/live": {"get": _live()},
        "/health/ready": {"get": _ready("get_ready")},
        "/ping": {"get": _ready("ping")},
        "/health": {"get": _health()},
        "/metrics": {"get": _metrics(settings)},
        "/openapi.json": {"get": _openapi()},
        "/docs": {"get": _docs()},
    }
    return {**_platform_paths(settings), **own}


def _platform_paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The path that a platform has chosen for its probes."""
    route = settings.platform_health_route
    return {route: {"get": _ready("get_platform_health")}} if route else {}


def _predict(settings: Settings) -> Operation:
    return Operation(
        name="predict",
        summary="A probability for every label",
        description="""
        Takes one image: the raw bytes as the body, a form with exactly one file, or JSON that holds
        it in base64 or as a data URL. The bytes decide which format it has, not its name and not
        its declared type.

        The answer is sorted by probability, the highest first. What JSON says of labels wins over
        the query.
        """,
        tag="predictions",
        parameters=_SELECTION,
        body=_image_body(settings),
        answers={200: json_answer("The predictions for the image.", examples.ANSWER)},
        errors=[*_REQUEST_ERRORS, *_IMAGE_ERRORS],
    )


def _predict_batch(settings: Settings) -> Operation:
    return Operation(
        name="predict_batch",
        summary="The same for several images",
        description=f"""
        Takes a form with 1 to {settings.max_batch_files} files, and returns one result for each,
        in the order of the form. A file that cannot be answered gets a problem as its result; the
        other files are answered normally, and the status is 200.
        """,
        tag="predictions",
        parameters=_SELECTION,
        body=_files_body(settings),
        answers={200: json_answer("One result for each file.", examples.BATCH_ANSWER)},
        errors=_REQUEST_ERRORS,
    )


def _model(settings: Settings) -> Operation:
    return Operation(
        name="get_model",
        summary="The card of the model that answers",
        description="Name, version, labels, input size, and figures that were measured on it.",
        tag="model",
        answers={200: json_answer("The card.", examples.CARD)},
        needs_key="/model" not in open_paths(settings),
    )


def _live() -> Operation:
    return Operation(
        name="get_live",
        summary="Whether the process answers",
        description="For liveness probes. It never waits behind predictions.",
        tag="health",
        answers={200: json_answer("It does.", examples.LIVE)},
        needs_key=False,
    )


def _ready(name: str) -> Operation:
    return Operation(
        name=name,
        summary="Whether requests should come here",
        description="Every worker has answered its warm-up image, and the service is not stopping."
        " SageMaker asks `/ping`.",
        tag="health",
        answers={200: json_answer("They should.", examples.READY)},
        errors=[NotReady],
        needs_key=False,
    )


def _health() -> Operation:
    return Operation(
        name="get_health",
        summary="The same, and which model answers",
        description="As `/health/ready`, with the model's name and version.",
        tag="health",
        answers={200: json_answer("Ready, with this model.", examples.HEALTH)},
        errors=[NotReady],
        needs_key=False,
    )


def _metrics(settings: Settings) -> Operation:
    text = {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}}
    return Operation(
        name="get_metrics",
        summary="Figures for Prometheus",
        description="Prometheus' text format, over all workers.",
        tag="health",
        answers={200: answer("All metrics.", text)},
        needs_key="/metrics" not in open_paths(settings),
    )


def _openapi() -> Operation:
    document = {"application/json": {"schema": {"type": "object"}}}
    return Operation(
        name="get_openapi",
        summary="This description",
        description="OpenAPI 3.1, to make clients from. `python -m service openapi` prints it.",
        tag="description",
        answers=_cached(answer("The description.", document, headers=["ETag"])),
        needs_key=False,
    )


def _docs() -> Operation:
    page = {"text/html": {"schema": {"type": "string"}}}
    return Operation(
        name="get_docs",
        summary="This description as a page",
        description="HTML without scripts, which needs no other address.",
        tag="description",
        answers=_cached(answer("The page.", page, headers=["ETag"])),
        needs_key=False,
    )


def _cached(whole: JsonObject) -> dict[int, JsonObject]:
    same = answer("It has not changed since the `ETag` in `If-None-Match`.", headers=["ETag"])
    return {200: whole, 304: same}


# ---- bodies --------------------------------------------------------------------------------------


def _image_body(settings: Settings) -> JsonObject:
    content = {name: {"schema": binary(name)} for name in (*_media_types(settings), BYTES)}
    content[MULTIPART] = _form(settings, "image", binary(BYTES))
    content |= json_content(examples.JSON_REQUEST)
    return {
        "description": f"An image of at most {settings.max_image_bytes:,} bytes.",
        "required": True,
        "content": content,
    }


def _files_body(settings: Settings) -> JsonObject:
    count = {"minItems": 1, "maxItems": settings.max_batch_files}
    files = {"type": "array", "items": binary(BYTES), **count}
    return {
        "description": f"Images of at most {settings.max_image_bytes:,} bytes,"
        f" {settings.max_batch_bytes:,} in all.",
        "required": True,
        "content": {MULTIPART: _form(settings, "images", files)},
    }


def _form(settings: Settings, field: str, files: JsonObject) -> JsonObject:
    """A form; the service takes files of any field's name."""
    return {
        "schema": {"type": "object", "properties": {field: files}, "required": [field]},
        "encoding": {field: {"contentType": ", ".join(_media_types(settings))}},
    }


def _media_types(settings: Settings) -> list[str]:
    return [MEDIA_TYPES[name] for name in settings.formats]
