"""GET /openapi.json and GET /docs."""

from functools import lru_cache

import msgspec
from flask import Blueprint, Response, request

from service.http.current import current_service
from service.http.openapi.document import document
from service.http.openapi.page import content_security_policy, render
from service.settings import Settings

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description of this service, for machines."""
    body = _document(current_service().settings)
    return _cacheable(Response(body, content_type="application/json"))


@blueprint.get("/docs")
def docs() -> Response:
    """The same, for people."""
    body = _page(current_service().settings)
    response = _cacheable(Response(body, content_type="text/html; charset=utf-8"))
    response.headers["Content-Security-Policy"] = content_security_policy()
    return response


def _cacheable(response: Response) -> Response:
    """What may be kept, and has to be asked for again: the answer to that is 304 while it holds."""
    response.add_etag()
    etag, _ = response.get_etag()
    if etag and request.if_none_match.contains_weak(etag):
        response = Response(status=304)
        response.set_etag(etag)
    response.headers["Cache-Control"] = "no-cache"
    return response


@lru_cache(maxsize=1)
def _document(settings: Settings) -> bytes:
    return msgspec.json.encode(document(settings))


@lru_cache(maxsize=1)
def _page(settings: Settings) -> str:
    return render(document(settings), f"http://127.0.0.1:{settings.port}")
