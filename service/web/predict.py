"""POST /predict, POST /predict/batch, GET /model: thin callers."""

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_input_stream

from service.web.body import read_body
from service.web.service import this_exchange, this_service

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict")
def predict() -> Response:
    """One image in, a probability for every label out."""
    return _answer("/predict")


@blueprint.post("/predict/batch")
def predict_batch() -> Response:
    """Several images in, a result for each out."""
    return _answer("/predict/batch")


@blueprint.get("/model")
def model() -> Response:
    """The card of the model that answers."""
    card = this_service().predictor.classifier.card
    return Response(card.to_json(), content_type="application/json")


def _answer(route: str) -> Response:
    service, exchange = this_service(), this_exchange()
    length = request.content_length
    # A transport that has let it in has looked at its head; nor does a stop since then matter.
    admitted = exchange.admitted is not None
    limit = length or 0 if admitted else service.check_head(route, request.headers, length)
    with service.admission.inside(exchange):
        stream = get_input_stream(request.environ)
        body = read_body(stream, length, limit, service.settings.body_timeout)
        exchange.bytes_in = len(body)
        top_k = request.args.get("top_k")
        answer = service.routes[route].predict(body, request.content_type, top_k, exchange)
    return Response(answer, content_type="application/json")
