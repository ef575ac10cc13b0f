"""Responses: the headers that all have, and what an error becomes."""

import logging
from typing import Any, NamedTuple

import msgspec

from service.inference.errors import ImageError, InvalidAnswer
from service.serving.context import RequestContext
from service.serving.errors import RequestError
from service.serving.problems import (
    Problem,
    problem_body,
    problem_headers,
    problem_of,
    problem_of_status,
)

_LOG = logging.getLogger("labelserve")

# Which version of its model has answered, or would have.
MODEL_VERSION = "X-Model-Version"

JSON = {"Content-Type": "application/json"}

# What security scanners expect of an API: no answer is a page, a script or to be cached.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class Response(NamedTuple):
    """A status, the headers of its own and a body."""

    status: int
    headers: dict[str, str]
    body: bytes


def common_headers(context: RequestContext) -> dict[str, str]:
    """What every response carries besides its own headers."""
    headers = {"X-Request-ID": context.request_id, **SECURITY_HEADERS, **context.cors}
    if context.served is not None:
        headers[MODEL_VERSION] = str(context.served.number)
    return headers


def json_response(content: Any) -> Response:
    """A 200 with JSON of what msgspec encodes, without the headers that all have."""
    return Response(200, JSON, msgspec.json.encode(content))


def complete(response: Response, context: RequestContext) -> Response:
    """A response with the headers that all have."""
    return response._replace(headers=response.headers | common_headers(context))


def error_response(error: Exception, context: RequestContext) -> Response:
    """The response to a request that failed, with all headers.

    A domain error becomes its problem. Any other exception is a bug of the service: the log gets
    the traceback, the client a 500 with the id to find it by.
    """
    if isinstance(error, RequestError | ImageError | InvalidAnswer):
        return _problem_response(problem_of(error, context.request_id), context)
    _LOG.error("unexpected error", exc_info=error, extra={"fields": context.ids})
    return status_response(500, "an unexpected error; the log has it by this request's id", context)


def status_response(status: int, detail: str, context: RequestContext) -> Response:
    """The response of a plain HTTP status that no domain error stands for, with all headers."""
    return _problem_response(problem_of_status(status, detail, context.request_id), context)


def _problem_response(problem: Problem, context: RequestContext) -> Response:
    if context.ended is None:  # else it is counted as what the client was told
        context.problem = problem.reason
    media_type, body = problem_body(problem, error_member=context.error_member)
    headers = {"Content-Type": media_type} | problem_headers(problem)
    return complete(Response(problem.status, headers, body), context)
