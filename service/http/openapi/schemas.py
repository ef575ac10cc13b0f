"""The schemas of all JSON: made from the types that are encoded, or written by hand.

By hand are those of requests that are read piece by piece, so that no type has all of them.
"""

from inspect import cleandoc
from typing import Any

import msgspec

from service.http.explain import ExplainRequest, Explanation, Explanations
from service.http.health import Health, Live, Ready, Status
from service.http.hugging_face import HuggingFaceRequest, Scored
from service.http.model import ModelExamples, ModelList
from service.http.model_status import ModelNames, ModelStatus
from service.http.open_inference.answers import InferAnswer
from service.http.open_inference.descriptions import (
    IndexedModel,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
)
from service.http.open_inference.statistics import StatisticsAnswer
from service.http.openapi.operations import JsonObject, reference
from service.http.page.routes import Root
from service.http.predict import Answer, BatchAnswer, JsonRequest
from service.http.tensorflow_serving import Classified, Columned, Rowed
from service.inference.contract import INPUT_NAME, OUTPUT_NAME, ModelCard
from service.serving.problems import ErrorMessage, Problem
from service.serving.uploads import BASE64_SCHEMA
from service.settings import Settings

# The types that these hold follow by themselves.
_TYPES = (
    *(Answer, BatchAnswer, JsonRequest, Problem, ErrorMessage),
    *(ModelCard, ModelExamples, ModelList),
    *(Explanation, Explanations, ExplainRequest),
    *(Root, Status, Health, Live, Ready),
    *(Rowed, Columned, Classified, ModelNames, ModelStatus),
    *(InferAnswer, ServerMetadata, ModelMetadata, ModelReady, ModelConfig),
    *(IndexedModel, StatisticsAnswer),
    *(HuggingFaceRequest, Scored),
)


def schemas(settings: Settings) -> JsonObject:
    """All of them, by name."""
    _, found = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    made = {name: _in_markdown(_plain(schema)) for name, schema in found.items()}
    return made | _requests(settings)


def _plain(value: Any) -> Any:
    """Arrays as generators of clients read them: no ``items: false``, and none without items.

    ``maxItems`` says the same.
    """
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _plain(inner) for name, inner in value.items()}
    if plain.get("items") is False:
        del plain["items"]
    elif plain.get("type") == "array" and "prefixItems" not in plain:
        plain.setdefault("items", {})
    return plain


def _in_markdown(schema: JsonObject) -> JsonObject:
    """A type's schema, described by its docstring."""
    return {**schema, "description": cleandoc(schema["description"]).replace("``", "`")}


_BASE64: JsonObject = {"type": "string", **BASE64_SCHEMA}


def _requests(settings: Settings) -> JsonObject:
    images = {
        "type": "array",
        "items": reference("schemas", "Image"),
        "minItems": 1,
        "maxItems": settings.max_batch_files,
    }
    named = {"type": "object", "properties": {INPUT_NAME: images}, "required": [INPUT_NAME]}
    signature = {"enum": ["serving_default", "labels"], "default": "serving_default"}
    return {
        "Pixels": _PIXELS,
        "ImageFile": _object("An image file in base64.", {"b64": _BASE64}, "b64"),
        "NamedImage": _object(
            "An image by the name of the model's input.",
            {INPUT_NAME: {"anyOf": _refer("ImageFile", "Pixels")}},
            INPUT_NAME,
        ),
        "Image": {
            "description": "An image file in base64, or pixels of the model's own size.",
            "anyOf": _refer("ImageFile", "NamedImage", "Pixels"),
        },
        "Rows": _object(
            "TensorFlow Serving's row form.",
            {"instances": images, "signature_name": signature},
            "instances",
        ),
        "Columns": _object(
            "TensorFlow Serving's column form.",
            {"inputs": {"anyOf": [images, named]}, "signature_name": signature},
            "inputs",
        ),
        "Row": _object(
            "One image, KServe's way.", {"instances": {**images, "maxItems": 1}}, "instances"
        ),
        "Examples": _object("What is to be classified.", {"examples": images}, "examples"),
        "InferenceRequest": _inference_request(settings),
        **_PARTS_OF_INFERENCE,
    }


def _object(description: str, properties: JsonObject, *required: str) -> JsonObject:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
    }


def _refer(*names: str) -> list[JsonObject]:
    return [reference("schemas", name) for name in names]


_CHANNELS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 255},
    "minItems": 3,
    "maxItems": 3,
}
_PIXELS: JsonObject = {
    "description": "Whole numbers [height, width, 3], RGB, of the model's own size.",
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": _CHANNELS},
}
_PARTS_OF_INFERENCE: JsonObject = {
    "InferenceInput": _object(
        "The model's one input: pixels (UINT8 [N, height, width, 3]) or image files (BYTES [N])."
        " The data are here, in the order of the shape, or behind the JSON.",
        {
            "name": {"const": INPUT_NAME},
            "datatype": {"enum": ["UINT8", "BYTES"]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
            "data": {"type": "array", "items": {}, "minItems": 1},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_size": {"type": ["integer", "string", "null"]}},
            },
        },
        *("name", "datatype", "shape"),
    ),
    "InferenceOutput": _object(
        "The model's one output. With `classification`, so many labels as text.",
        {
            "name": {"const": OUTPUT_NAME},
            "parameters": {
                "type": ["object", "null"],
                "properties": {
                    "classification": {"type": ["integer", "null"], "minimum": 0},
                    "binary_data": {"type": ["boolean", "null"]},
                },
            },
        },
        "name",
    ),
}


def _inference_request(settings: Settings) -> JsonObject:
    return _object(
        f"A request of the Open Inference Protocol, for 1 to {settings.max_batch_files} images.",
        {
            "id": {"type": ["string", "null"], "maxLength": 4096},
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_output": {"type": ["boolean", "null"]}},
            },
            "inputs": {
                "type": "array",
                "items": reference("schemas", "InferenceInput"),
                "minItems": 1,
                "maxItems": 1,
            },
            "outputs": {
                "type": ["array", "null"],
                "items": reference("schemas", "InferenceOutput"),
                "maxItems": 1,
            },
        },
        "inputs",
    )
