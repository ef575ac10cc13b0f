"""The Open Inference Protocol, version 2, with Triton's extensions."""

from dataclasses import replace

from service.http.open_inference.infer import MODELS
from service.http.open_inference.inputs import JSON_LENGTH
from service.http.openapi import examples
from service.http.openapi.bodies import BYTES, IMAGE_ERRORS, REQUEST_ERRORS, binary, json_body
from service.http.openapi.operations import (
    JsonObject,
    Operation,
    answer,
    json_answer,
    json_content,
    reference,
)
from service.serving.errors import (
    BadParameter,
    BadTensor,
    NotReady,
    UnknownModel,
    WrongMediaType,
)
from service.settings import Settings

_TAG = "v2"


def paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """All operations, by path (without the root path) and method."""
    found = {
        "/v2": {"get": _server("v2_server")},
        "/v2/": {"get": _server("v2_server_slash")},
        "/v2/health/live": {"get": _live()},
        "/v2/health/ready": {"get": _ready()},
        "/v2/models/stats": {"get": replace(_statistics(), name="v2_all_statistics")},
        "/v2/repository/index": {"post": _index()},
        "/v2/repository/models/{name}/load": {"post": _change("load")},
        "/v2/repository/models/{name}/unload": {"post": _change("unload")},
    }
    for model, suffix in zip(MODELS, ("", "_of_version"), strict=True):
        asked = {
            "": {"get": _metadata()},
            "/ready": {"get": _model_ready()},
            "/config": {"get": _config()},
            "/stats": {"get": _statistics()},
            "/infer": {"post": _infer(settings)},
        }
        for behind, methods in asked.items():
            found[model + behind] = {
                method: replace(operation, name=operation.name + suffix)
                for method, operation in methods.items()
            }
    return found


def _server(name: str) -> Operation:
    return Operation(
        name=name,
        summary="What answers here",
        description="Its name, its version, and the protocol's extensions that it has.",
        tag=_TAG,
        answers={200: json_answer("This service.", examples.SERVER)},
    )


def _live() -> Operation:
    return Operation(
        name="v2_live",
        summary="Whether the process answers",
        description="As `/health/live`.",
        tag=_TAG,
        answers={200: json_answer("It does.", examples.PROTOCOL_LIVE)},
    )


def _ready() -> Operation:
    return Operation(
        name="v2_ready",
        summary="Whether requests should come here",
        description="As `/health/ready`.",
        tag=_TAG,
        answers={200: json_answer("They should.", examples.PROTOCOL_READY)},
        errors=[NotReady],
    )


def _metadata() -> Operation:
    return Operation(
        name="v2_model",
        summary="What a model takes and gives",
        description="One input and one output; -1 is any number of images.",
        tag=_TAG,
        answers={200: json_answer("The model.", examples.MODEL_METADATA)},
        errors=[UnknownModel],
    )


def _model_ready() -> Operation:
    return Operation(
        name="v2_model_ready",
        summary="Whether a model is ready",
        description="As `/health/ready`, for the model of this name; 503 with the reasons, too, if"
        " its file is refused.",
        tag=_TAG,
        answers={200: json_answer("It is.", examples.MODEL_READY)},
        errors=[UnknownModel, NotReady],
    )


def _config() -> Operation:
    return Operation(
        name="v2_config",
        summary="A model as Triton configures it",
        description="For Triton's own clients.",
        tag=_TAG,
        answers={200: json_answer("The model.", examples.MODEL_CONFIG)},
        errors=[UnknownModel],
    )


def _statistics() -> Operation:
    return Operation(
        name="v2_statistics",
        summary="What each version of a model has answered",
        description="Since the start and over all workers, times in nanoseconds.",
        tag=_TAG,
        answers={200: json_answer("The model.", examples.STATISTICS)},
        errors=[UnknownModel],
    )


def _index() -> Operation:
    return Operation(
        name="v2_index",
        summary="The models that there are, and their versions",
        description="A version whose file is refused is `UNAVAILABLE`.",
        tag=_TAG,
        answers={200: json_answer("The models.", [examples.INDEXED])},
    )


def _change(what: str) -> Operation:
    return Operation(
        name=f"v2_{what}",
        summary=f"Always refused: clients {what} nothing",
        description="Replace the model file, and the service takes the new one within seconds.",
        tag=_TAG,
        answers={},
        errors=[BadParameter, UnknownModel],
    )


def _infer(settings: Settings) -> Operation:
    return Operation(
        name="v2_infer",
        summary="Probabilities of images",
        description="""
        The images are pixels or files: in JSON, or as bytes behind it, or alone in the body
        (`Inference-Header-Content-Length: 0`). The answer is JSON, or has its numbers as bytes
        behind the JSON, if the request says `binary_data` or was a body alone.
        """,
        tag=_TAG,
        parameters=[reference("parameters", "JsonLength")],
        body=_body(settings),
        answers={200: _answer()},
        errors=[*REQUEST_ERRORS, *IMAGE_ERRORS, BadTensor, WrongMediaType],
    )


def _body(settings: Settings) -> JsonObject:
    body = json_body(settings, "InferenceRequest")
    return {**body, "content": {**body["content"], BYTES: {"schema": binary(BYTES)}}}


def _answer() -> JsonObject:
    content = json_content(examples.INFER_ANSWER) | {BYTES: {"schema": binary(BYTES)}}
    return answer("For each image.", content, headers=[JSON_LENGTH])
