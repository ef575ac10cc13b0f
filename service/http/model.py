"""GET /models: what is served; GET /model, GET /models/{name}: what a version says of itself."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from flask import Blueprint, Response, request
from msgspec import UNSET, UnsetType

from service.http.current import current_service
from service.http.endpoints import rule_of
from service.http.flask_responses import json_answer
from service.http.predict import MODEL
from service.serving.catalogue import Catalogue, Offer
from service.serving.served import Asked

MODELS = "/models"

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
    state: Literal["available", "refused"]
    card: CardVersion | UnsetType = UNSET
    reason: str | UnsetType = UNSET

    @classmethod
    def of(cls, offer: Offer) -> "ListedVersion":
        """A version as it is listed."""
        reason = offer.reason or UNSET
        if offer.served is None:
            return cls(offer.number, offer.labels, "refused", reason=reason)
        card = CardVersion(offer.served.classifier.card.version)
        return cls(offer.number, offer.labels, "available", card, reason)


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


@blueprint.get(MODELS)
def models() -> Response:
    """What is served, what is refused, and why."""
    catalogues = current_service().models.catalogues
    return json_answer(ModelList([ListedModel.of(one) for one in catalogues]))


@blueprint.get("/model")
@blueprint.get(rule_of(MODEL))
def model(**arguments: str) -> Response:
    """The card of the version that is asked for, else of the default."""
    asked = Asked.of(arguments, request.query_string.decode("latin-1"))
    card = current_service().models.find(asked).classifier.card
    return Response(card.to_json(), content_type="application/json")
