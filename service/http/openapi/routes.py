"""GET /openapi.json and GET /docs."""

from functools import lru_cache

import msgspec
from flask import Blueprint, Response

from service.http.caching import revalidated
from service.http.current import current_service
from service.http.openapi.document import document
from service.http.openapi.page import content_security_policy, render
from service.settings import Settings

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description of this service, for machines."""
    body = _document(current_service().settings)
    return revalidated(Response(body, content_type="application/json"))


@blueprint.get("/docs")
def docs() -> Response:
    """The same, for people."""
    body = _page(current_service().settings)
    response = revalidated(Response(body, content_type="text/html; charset=utf-8"))
    response.headers["Content-Security-Policy"] = content_security_policy()
    return response


@lru_cache(maxsize=1)
def _document(settings: Settings) -> bytes:
    return msgspec.json.encode(document(settings))


@lru_cache(maxsize=1)
def _page(settings: Settings) -> str:
    return render(document(settings), f"http://127.0.0.1:{settings.port}")
