"""TensorFlow Serving's REST API, which is KServe's version 1, and Vertex AI's."""

from dataclasses import replace

from service.http.openapi import examples
from service.http.openapi.bodies import IMAGE_ERRORS, REQUEST_ERRORS, json_body
from service.http.openapi.operations import Operation, answer, json_answer
from service.http.openapi.parameters import EXPLAINED
from service.http.tensorflow_serving import MODELS
from service.serving.errors import (
    BadParameter,
    BadTensor,
    NotReady,
    TooSlow,
    UnknownModel,
    UnsupportedCoding,
)
from service.settings import Settings

_TAG = "v1"
_REFUSED = (*REQUEST_ERRORS, *IMAGE_ERRORS, BadTensor)


def paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """All operations, by path (without the root path) and method."""
    found = {"/v1/models": {"get": _names()}}
    for model, suffix in zip(MODELS, ("", "_of_version", "_of_label"), strict=True):
        asked = {
            "": {"get": _status()},
            "/metadata": {"get": _metadata()},
            ":predict": {"post": predict(settings)},
            ":classify": {"post": _classify(settings)},
            ":explain": {"post": _explain(settings)},
            ":regress": {"post": _regress(settings)},
        }
        for behind, methods in asked.items():
            found[model + behind] = {
                method: replace(operation, name=operation.name + suffix)
                for method, operation in methods.items()
            }
    return found


def _names() -> Operation:
    return Operation(
        name="v1_models",
        summary="The models by their names",
        description="`GET /models` has their versions, too.",
        tag=_TAG,
        answers={200: json_answer("The names.", examples.MODEL_NAMES)},
    )


def _status() -> Operation:
    return Operation(
        name="v1_status",
        summary="Whether a model is ready, and each of its versions",
        description="`name` and `ready` are KServe's, the rest is TensorFlow Serving's. A version"
        " whose file is refused is `END`; asked for it alone, or for a model that has no other, the"
        " answer is 503 with the reasons.",
        tag=_TAG,
        answers={200: json_answer("It is.", examples.MODEL_STATUS)},
        errors=[UnknownModel, NotReady],
    )


def _metadata() -> Operation:
    content = {"schema": {"type": "object"}, "example": examples.V1_METADATA}
    return Operation(
        name="v1_metadata",
        summary="What a model takes and gives",
        description="Under TensorFlow Serving's names, and under those in camel case, for OVMS.",
        tag=_TAG,
        answers={200: answer("Names, types and shapes.", {"application/json": content})},
        errors=[UnknownModel],
    )


def predict(settings: Settings, name: str = "v1_predict") -> Operation:
    """Predictions for rows or columns of images."""
    return Operation(
        name=name,
        summary="Probabilities of images in rows or columns",
        description="""
        Images are files in base64 or pixels. The probabilities are in the order of the card's
        labels. With `"signature_name": "labels"`, each image is answered with its best label.
        """,
        tag=_TAG,
        body=json_body(settings, "Rows", "Columns"),
        answers={200: json_answer("For each image.", examples.ROWED, examples.COLUMNED)},
        errors=_REFUSED,
    )


def _classify(settings: Settings) -> Operation:
    return Operation(
        name="v1_classify",
        summary="Labels of images, the most probable first",
        description="Images are files in base64 or pixels.",
        tag=_TAG,
        body=json_body(settings, "Examples"),
        answers={200: json_answer("For each image.", examples.CLASSIFIED)},
        errors=_REFUSED,
    )


def _explain(settings: Settings) -> Operation:
    return Operation(
        name="v1_explain",
        summary="Which pixels a label's probability depends on, for one image",
        description="KServe's. As `/explain`, for the one image of `instances`.",
        tag=_TAG,
        parameters=EXPLAINED,
        body=json_body(settings, "Row"),
        answers={200: json_answer("One explanation.", examples.EXPLANATIONS)},
        errors=[*_REFUSED, TooSlow],
    )


def _regress(settings: Settings) -> Operation:
    return Operation(
        name="v1_regress",
        summary="Always refused: a classifier has no regression",
        description="Ask for `:predict`.",
        tag=_TAG,
        body=json_body(settings, "Examples"),
        answers={},
        errors=[BadParameter, NotReady, UnknownModel, UnsupportedCoding],
    )
