"""The whole description: a value that JSON is made of, as of OpenAPI 3.1."""

import sys

import msgspec

import service
from service.http.open_inference.inputs import JSON_LENGTH
from service.http.openapi.operations import JsonObject, shared_responses, text_of
from service.http.openapi.parameters import PARAMETERS
from service.http.openapi.paths import paths
from service.http.openapi.schemas import schemas
from service.inference.layout import ONLY_VERSION
from service.serving.problems import RETRY_AFTER_SECONDS
from service.serving.responses import MODEL_VERSION
from service.settings import Settings, SettingsError

_BAD_SETTING = 2

_DESCRIPTION = text_of(
    """
    Images in, a probability for every label out.

    Errors are `application/problem+json` (RFC 9457); under `/v1`, `/v2` and `/huggingface` they are
    `{"error": "…"}`, as clients of these read them. A path that is not listed here is answered
    with 404, another method than the listed ones with 405 and `Allow`. GET stands for HEAD, too,
    and every route answers OPTIONS with an empty 200 and `Allow`.
    """
)

_TAGS = {
    "predictions": "What a model says of images.",
    "model": "What a model says of itself.",
    "health": "What probes and monitoring ask.",
    "v1": "TensorFlow Serving's REST API, and KServe's version 1.",
    "v2": "The Open Inference Protocol, version 2: KServe, Triton, OpenVINO, MLServer.",
    "platforms": "SageMaker, Vertex AI and Hugging Face.",
    "description": "The API itself.",
}


def document(settings: Settings) -> JsonObject:
    """The description of a service with these settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "labelserve",
            "version": service.__version__,
            "summary": "An image classifier over HTTP.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        **({"servers": [{"url": settings.root_path}]} if settings.root_path else {}),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": _security(settings),
        "paths": paths(settings),
        "components": {
            "schemas": schemas(settings),
            "responses": shared_responses(),
            "parameters": PARAMETERS,
            "headers": _headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def print_document() -> int:
    """Write the description to standard output, for the settings in the environment.

    Returns:
        The exit status: 0, or 2 where the settings cannot be used.
    """
    try:
        settings = Settings.from_environ()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return _BAD_SETTING
    text = msgspec.json.format(msgspec.json.encode(document(settings)), indent=2)
    sys.stdout.write(text.decode() + "\n")
    return 0


def _security(settings: Settings) -> list[JsonObject]:
    """Either scheme; none, too, where no keys are set."""
    schemes: list[JsonObject] = [{"bearer": []}, {"key": []}]
    return schemes if settings.has_keys else [{}, *schemes]


def _headers() -> JsonObject:
    def text(description: str, example: str, *, required: bool = True) -> JsonObject:
        schema = {"type": "string"}
        return {
            "description": description,
            "required": required,
            "schema": schema,
            "example": example,
        }

    return {
        "X-Request-ID": text("The request's id: the client's, or a new one.", "a1b2c3"),
        MODEL_VERSION: {
            "description": "The number of the version that has answered.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
            "example": ONLY_VERSION,
        },
        "Retry-After": {
            "description": "Seconds to wait before the next attempt.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
            "example": RETRY_AFTER_SECONDS,
        },
        "WWW-Authenticate": text("The scheme to send a key by.", "Bearer"),
        "Accept-Encoding": text(
            "With `unsupported-coding`: what is accepted.", "identity", required=False
        ),
        "Allow": text("The methods that the route takes.", "GET, HEAD, OPTIONS"),
        JSON_LENGTH: text("How many bytes of the body are JSON.", "154", required=False),
        "ETag": text("Changes with the content.", '"0123456789abcdef"'),
    }
