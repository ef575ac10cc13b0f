"""GET /model, GET /models/{name}: what a version of a model says of itself."""

from flask import Blueprint, Response, request

from service.http.current import current_service
from service.serving.served import Asked

blueprint = Blueprint("model", __name__)


@blueprint.get("/model")
@blueprint.get("/models/<name>")
def model(**arguments: str) -> Response:
    """The card of the version that answers, or of the one that is asked for."""
    query = request.query_string.decode("latin-1")
    card = current_service().models.find(Asked.of(arguments, query)).classifier.card
    return Response(card.to_json(), content_type="application/json")
