"""GET /model: what the model that answers says of itself; GET /model/examples: images to try."""

import msgspec
from flask import Blueprint, Response

from service.http.caching import revalidated
from service.http.current import current_service
from service.http.flask_responses import json_answer
from service.http.predict import ModelName
from service.inference.contract import Example

MODEL = "/model"
EXAMPLES = "/model/examples"

blueprint = Blueprint("model", __name__)


class ModelExamples(msgspec.Struct, frozen=True):
    """Some of the model's own test images, as many as its file has: ten or none."""

    model: ModelName
    examples: tuple[Example, ...]


@blueprint.get(MODEL)
def model() -> Response:
    """The card of the model that answers, without the images on it: it is read often."""
    card = current_service().models.current.card
    return Response(card.without_images().to_json(), content_type="application/json")


@blueprint.get(EXAMPLES)
def examples() -> Response:
    """The images, which may be kept until the model is another."""
    model = current_service().models.current
    return revalidated(json_answer(ModelExamples(ModelName.of(model), model.card.examples)))
