"""What platforms ask: SageMaker, Hugging Face's clients, and the paths that Vertex AI chooses."""

from service.http.health import ROOT
from service.http.hugging_face import HUGGING_FACE
from service.http.invocations import INVOCATIONS
from service.http.openapi import examples, own, tensorflow_serving
from service.http.openapi.bodies import IMAGE_ERRORS, REQUEST_ERRORS, image_body, json_of
from service.http.openapi.operations import Operation, json_answer, json_content
from service.http.openapi.parameters import SELECTION
from service.serving.errors import BadTensor, WrongMediaType
from service.settings import Settings

_TAG = "platforms"


def paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """All operations, by path (without the root path) and method."""
    return {
        INVOCATIONS: {"post": _invocations(settings)},
        HUGGING_FACE: {"post": _hugging_face(settings)},
    }


def chosen_paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """Those at paths that the settings name. That of predictions may be a path of others."""
    found = {}
    if settings.platform_health_route not in (None, ROOT):
        found[settings.platform_health_route] = {"get": own.ready("get_platform_health")}
    if settings.platform_predict_route:
        predict = tensorflow_serving.predict(settings, "platform_predict")
        found[settings.platform_predict_route] = {"post": predict}
    return found


def _invocations(settings: Settings) -> Operation:
    return Operation(
        name="invocations",
        summary="Predictions for SageMaker's clients",
        description="As `/predict`; JSON with `instances` or `inputs` as `:predict` of `/v1`.",
        tag=_TAG,
        parameters=SELECTION,
        body=image_body(settings, json_of("JsonRequest", "Rows", "Columns")),
        answers={
            200: json_answer(
                "In the form of the request.", examples.ANSWER, examples.ROWED, examples.COLUMNED
            )
        },
        errors=[*REQUEST_ERRORS, *IMAGE_ERRORS, BadTensor, WrongMediaType],
    )


def _hugging_face(settings: Settings) -> Operation:
    return Operation(
        name="hugging_face",
        summary="Predictions for clients of Hugging Face's endpoints",
        description="""
        The most probable label first: as many as `top_k` says, or 5. `function_to_apply` may name
        the model's own function only, which its scores have been through already.
        """,
        tag=_TAG,
        body=image_body(settings, json_content(examples.HUGGING_FACE_REQUEST)),
        answers={200: json_answer("The labels.", [examples.SCORED])},
        errors=[*REQUEST_ERRORS, *IMAGE_ERRORS, WrongMediaType],
    )
