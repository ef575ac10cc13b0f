"""The parameters of paths, query strings and heads."""

from service.http.open_inference.inputs import JSON_LENGTH
from service.http.openapi import examples
from service.http.openapi.operations import JsonObject, reference
from service.inference.explanation import METHOD
from service.inference.layout import ONLY_VERSION, STABLE
from service.serving.models.models import CANARY_KEY


def _query(name: str, description: str, schema: JsonObject, example: float | str) -> JsonObject:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema,
        "example": example,
    }


def _part(name: str, description: str, example: str) -> JsonObject:
    """A part of a path: anything without a slash or a colon."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "pattern": "^[^/:]+$"},
        "example": example,
    }


def _header(name: str, description: str, schema: JsonObject, example: str) -> JsonObject:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": schema,
        "example": example,
    }


PARAMETERS: JsonObject = {
    "TopK": _query(
        "top_k",
        "Only so many labels, the most probable ones; all labels without it.",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        3,
    ),
    "MinProbability": _query(
        "min_probability",
        "Only labels with at least this probability; there may be none.",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        0.1,
    ),
    "ExplainedLabel": _query(
        "label",
        "The label to explain; the most probable one without it.",
        {"type": "string"},
        "cat",
    ),
    "Method": _query("method", "How; there is one way.", {"enum": [METHOD, ""]}, METHOD),
    "Name": _part("name", "The model's name, as `GET /models` lists it.", examples.MODEL.name),
    "Version": _part("version", "The version's number; 0 is the default.", str(ONLY_VERSION)),
    "Label": _part("label", "A label of a version, as `GET /models` lists them.", STABLE),
    "WantedVersion": _query(
        "version",
        "The version that is to answer: its number, or a label that leads to it. Without it, the"
        " default answers, or the version with the label `canary`.",
        {"type": "string"},
        str(ONLY_VERSION),
    ),
    "CanaryKey": _header(
        CANARY_KEY,
        "Where a share of the requests is answered by the version with the label `canary`: the same"
        " key is always answered by the same version. Without it, the request's id is the key.",
        {"type": "string"},
        "user-42",
    ),
    "JsonLength": _header(
        JSON_LENGTH,
        "How many bytes of the body are JSON; the input's bytes follow. With 0, all of the body is"
        " the input, such as an image file. Without it, or with nothing in it, all of the body is"
        " JSON.",
        {"type": "string", "pattern": "^[0-9]{0,15}$"},
        "154",
    ),
    "RequestId": _header(
        "X-Request-ID",
        "An id for logs and the answer: up to 64 letters, digits, `.`, `_` and `-`. Anything else"
        " is ignored. Without it, the trace id of `traceparent` is the id.",
        {"type": "string"},
        examples.REQUEST_ID,
    ),
}
EXPLAINED = (reference("parameters", "ExplainedLabel"), reference("parameters", "Method"))
SELECTION = (reference("parameters", "TopK"), reference("parameters", "MinProbability"))
