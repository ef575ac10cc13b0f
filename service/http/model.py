"""GET /models: what is served; GET /model, GET /models/{name}: what a version says of itself.

GET /model/examples, GET /models/{name}/examples: the images that its card has.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, UnsetType

from service.http.caching import revalidated
from service.http.current import current_service
from service.http.endpoints import rule_of
from service.http.flask_responses import json_answer
from service.http.predict import MODEL, ModelName
from service.inference.classifier import Classifier
from service.inference.contract import Example
from service.serving.models.catalogue import Catalogue, Offer
from service.serving.served import Asked

MODEL_LIST = "/models"
CARD = "/model"
EXAMPLES = "/examples"

blueprint = Blueprint("model", __name__)


class CardVersion(msgspec.Struct, frozen=True):
    """Of a model's card, what ``model.version`` is in answers."""

    version: str


class ListedVersion(msgspec.Struct, frozen=True):
    """A version: its number, its labels, and whether it answers.

    ``reason``: why its file is refused; with ``available``, what the file held before answers.
    """

    version: int
    labels: Sequence[str]
    state: Literal["available", "opening", "refused"]
    card: CardVersion | UnsetType = UNSET
    reason: str | UnsetType = UNSET

    @classmethod
    def of(cls, offer: Offer) -> "ListedVersion":
        """A version as it is listed."""
        served = offer.served
        card = UNSET if served is None else CardVersion(served.classifier.card.version)
        return cls(offer.number, offer.labels, offer.state, card, offer.reason or UNSET)


class ListedModel(msgspec.Struct, frozen=True):
    """A model: its versions from the lowest number, and which answers where none is named.

    ``problems``: what is wrong with its labels.
    """

    name: str
    default: int | None
    versions: Sequence[ListedVersion]
    problems: Sequence[str] | UnsetType = UNSET

    @classmethod
    def of(cls, catalogue: Catalogue) -> "ListedModel":
        """A model as it is listed."""
        default = None if catalogue.default is None else catalogue.default.number
        versions = [ListedVersion.of(offer) for offer in catalogue.offers]
        return cls(catalogue.name, default, versions, catalogue.problems or UNSET)


class ModelList(msgspec.Struct, frozen=True):
    """All models that are served."""

    models: Sequence[ListedModel]


class ModelExamples(msgspec.Struct, frozen=True):
    """Some of the model's own test images, as many as its file has: ten or none."""

    model: ModelName
    examples: Sequence[Example]


@blueprint.get(MODEL_LIST)
def models() -> Response:
    """What is served, what is refused, and why."""
    catalogues = current_service().models.catalogues
    return json_answer(ModelList([ListedModel.of(one) for one in catalogues]))


@blueprint.get(CARD)
@blueprint.get(rule_of(MODEL))
def model(**arguments: str) -> Response:
    """The card of the version that is asked for, without its images: it is read often."""
    card = _wanted(arguments).card.without_images()
    return Response(card.to_json(), content_type="application/json")


@blueprint.get(CARD + EXAMPLES)
@blueprint.get(rule_of(MODEL) + EXAMPLES)
def examples(**arguments: str) -> Response:
    """The images, which may be kept until the model is another."""
    wanted = _wanted(arguments)
    return revalidated(json_answer(ModelExamples(ModelName.of(wanted), wanted.card.examples)))


def _wanted(arguments: Mapping[str, str]) -> Classifier:
    """The version that is asked for, else the default."""
    asked = Asked.of(arguments, request.query_string.decode("latin-1"))
    return current_service().models.find(asked).classifier
