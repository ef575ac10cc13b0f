"""Responses as Flask takes them."""

from typing import Any

from flask import Response

from service.serving import responses


def flask_response(response: responses.Response) -> Response:
    """The same response, as a Flask view returns it."""
    return Response(response.body, response.status, response.headers)


def json_answer(content: Any) -> Response:
    """A 200 with JSON of what msgspec encodes."""
    return flask_response(responses.json_response(content))
