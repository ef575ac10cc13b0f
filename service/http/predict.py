"""POST /predict, POST /predict/batch, GET /model: thin callers of ``service.serving``."""

from flask import Blueprint, Response, request
from werkzeug.wsgi import get_input_stream

from service.http.body import read_body
from service.http.current import current_context, current_service
from service.serving.endpoints import PREDICT, PREDICT_BATCH
from service.serving.pipeline import PredictRequest

blueprint = Blueprint("predict", __name__)


@blueprint.post(PREDICT)
@blueprint.post(PREDICT_BATCH)
def predict() -> Response:
    """Images in, a probability for every label out."""
    service, context = current_service(), current_context()
    length = request.content_length
    # A server that has admitted the request has checked its head and read its body.
    limit = length or 0
    if context.admitted is None:
        limit = service.endpoints.check_head(context.route, request.headers, length)
    with service.admission.admit(context):
        stream = get_input_stream(request.environ)
        body = read_body(stream, length, limit, service.settings.body_timeout)
        context.bytes_in = len(body)
        query = request.query_string.decode("latin-1")
        wanted = PredictRequest(body, request.content_type or "", query, context)
        answer = service.endpoints.by_path[context.route].answer(wanted)
    return Response(answer, content_type="application/json")


@blueprint.get("/model")
def model() -> Response:
    """The card of the model that answers."""
    card = current_service().models.current.card
    return Response(card.to_json(), content_type="application/json")
