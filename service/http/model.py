"""GET /model: what the model that answers says of itself."""

from flask import Blueprint, Response

from service.http.current import current_service

blueprint = Blueprint("model", __name__)


@blueprint.get("/model")
def model() -> Response:
    """The card of the model that answers."""
    card = current_service().models.current.card
    return Response(card.to_json(), content_type="application/json")
