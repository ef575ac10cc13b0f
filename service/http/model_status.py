"""GET /v1/models: is a model ready, and what does it take? Answers KServe and TensorFlow Serving.

One answer has the members of both; OVMS' clients read the same names in camel case.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from flask import Blueprint, Response

from service.http.current import current_service
from service.http.endpoints import rule_of
from service.http.flask_responses import json_answer
from service.http.health import check_version
from service.http.tensorflow_serving import LABELS_SIGNATURE, MODELS, SIGNATURE
from service.inference.contract import INPUT_NAME, OUTPUT_NAME
from service.inference.layout import ONLY_VERSION
from service.serving.models.catalogue import Offer
from service.serving.served import Asked

blueprint = Blueprint("model_status", __name__)

_PREDICT_METHOD = "tensorflow/serving/predict"


class ModelNames(msgspec.Struct, frozen=True):
    """What is served."""

    models: list[str]


class VersionCondition(msgspec.Struct, frozen=True):
    """Whether a version has failed, and why."""

    error_code: str = "OK"
    error_message: str = ""


class VersionStatus(msgspec.Struct, frozen=True):
    """A version of a model, as TensorFlow Serving tells of it."""

    version: str = str(ONLY_VERSION)
    state: Literal["LOADING", "AVAILABLE", "END"] = "AVAILABLE"
    status: VersionCondition = VersionCondition()

    @classmethod
    def of(cls, offer: Offer) -> "VersionStatus":
        """A version that answers, is being opened, or was refused."""
        if offer.state == "refused":
            return cls(str(offer.number), "END", VersionCondition("INVALID_ARGUMENT", offer.reason))
        return cls(str(offer.number), "LOADING" if offer.state == "opening" else "AVAILABLE")


class ModelStatus(msgspec.Struct, frozen=True):
    """A model that is ready; ``name`` and ``ready`` are KServe's."""

    name: str
    ready: bool = True
    model_version_status: Sequence[VersionStatus] = (VersionStatus(),)


@blueprint.get("/v1/models")
def names() -> Response:
    """The models by their names."""
    return json_answer(ModelNames([one.name for one in current_service().models.catalogues]))


def status(**arguments: str) -> Response:
    """A model is ready, or a version of it; 503 while it is not."""
    asked, models = Asked.of(arguments), current_service().models
    catalogue = models.catalogue(asked)
    served = check_version(catalogue, asked.version)
    told = [
        VersionStatus.of(offer)
        for offer in reversed(catalogue.offers)
        if not asked.version or offer.number == served.number
    ]
    return json_answer(ModelStatus(served.name, model_version_status=told))


def metadata(**arguments: str) -> Response:
    """Names, types and shapes of what a model takes and gives, by its signatures."""
    name, number, _, classifier = current_service().models.find(Asked.of(arguments))
    card = classifier.card
    image = _tensor(INPUT_NAME, "DT_UINT8", (-1, *classifier.input_size, 3))
    signatures = {
        SIGNATURE: _signature(image, _tensor(OUTPUT_NAME, "DT_FLOAT", (-1, len(card.labels)))),
        LABELS_SIGNATURE: _signature(image, _tensor(LABELS_SIGNATURE, "DT_STRING", (-1,))),
    }
    spec = _both_cases(name=name, signature_name="", version=str(number))
    definitions = _both_cases(signature_def=signatures)
    return json_answer(_both_cases(model_spec=spec, metadata={"signature_def": definitions}))


for _model in MODELS:
    _rule = rule_of(_model)
    blueprint.add_url_rule(_rule, view_func=status)
    blueprint.add_url_rule(f"{_rule}/metadata", view_func=metadata)


def _signature(image: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return _both_cases(
        inputs={image["name"]: image},
        outputs={answer["name"]: answer},
        method_name=_PREDICT_METHOD,
    )


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in shape]
    dimensions = _both_cases(dim=sizes, unknown_rank=False)
    return _both_cases(dtype=dtype, tensor_shape=dimensions, name=name)


def _both_cases(**members: object) -> dict[str, Any]:
    """Members under their names, and under these in camel case."""
    camel = {
        re.sub("_(.)", lambda found: found[1].upper(), name): member
        for name, member in members.items()
    }
    return members | camel
