"""Flask's view of the routes that take images, for servers that do not answer them themselves."""

from flask import Flask, Response, request
from werkzeug.wsgi import get_input_stream

from service.http.body import read_body
from service.http.current import current_context, current_endpoints, current_service
from service.http.endpoints import Endpoints
from service.http.flask_responses import flask_response
from service.serving.pipeline import PredictRequest


def add_routes(app: Flask, endpoints: Endpoints) -> None:
    """Give an application the routes."""
    for endpoint in endpoints.each:
        app.add_url_rule(endpoint.rule, endpoint.route, _answer, methods=["POST"])


def _answer(**_arguments: str) -> Response:
    service, context, endpoints = current_service(), current_context(), current_endpoints()
    found = endpoints.find(request.method, request.path)
    assert found is not None, "the rules are the endpoints'"  # noqa: S101
    length, query = request.content_length, request.query_string.decode("latin-1")
    limit = endpoints.check_head(found, query, request.headers, length, context)
    with service.admission.admit(context, background=found.endpoint.background):
        stream = get_input_stream(request.environ)
        body = read_body(stream, length, limit, service.settings.body_timeout)
        context.bytes_in = len(body)
        wanted = PredictRequest(body, request.headers, query, context)
        answer = service.batcher.answer(wanted, found.endpoint.read)
    return flask_response(answer)
