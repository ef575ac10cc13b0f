"""GET /: a page for people who try the model, and what programs are told there."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Literal

import msgspec
from flask import Blueprint, Flask, Response, render_template, request

import service
from service.http.caching import revalidated
from service.http.current import current_service
from service.http.explain import EXPLAIN
from service.http.flask_responses import json_answer
from service.http.health import ROOT, check_ready
from service.http.predict import PREDICT, PREDICT_BATCH
from service.settings import Settings

HTML = "text/html"
_FOLDER = Path(__file__).parent
_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
_LINKED = {
    "predict": PREDICT,
    "predict_batch": PREDICT_BATCH,
    "explain": EXPLAIN,
    "model": "/model",
    "health": "/health",
    "openapi": "/openapi.json",
    "docs": "/docs",
}

# Images are shown from memory; nothing comes from elsewhere, and nothing is written in the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:;"
    " media-src blob:; connect-src 'self'; base-uri 'self'; form-action 'none';"
    " frame-ancestors 'none'"
)


class Root(msgspec.Struct, frozen=True):
    """The process answers; what it is, and where to go on. Links are relative to the request."""

    status: Literal["alive"]
    name: str
    version: str
    links: dict[str, str]


blueprint = Blueprint("page", __name__, template_folder=".")


def register(app: Flask, settings: Settings) -> None:
    """Add ``/``, and what its page loads."""
    app.register_blueprint(blueprint)
    for name, media_type in files(settings).items():
        app.add_url_rule(f"/{name}", name, partial(_file, name, media_type))


def files(settings: Settings) -> Mapping[str, str]:
    """Names and media types of what the page loads; none where there is no page."""
    return _FILES if settings.page else {}


@blueprint.get(ROOT)
def root() -> Response:
    """The page for browsers, JSON for all others: load balancers, and KServe's client."""
    settings = current_service().settings
    if settings.platform_health_route == ROOT:
        check_ready()
    # A path that ends without a slash is no base for relative addresses.
    base = f"{request.script_root}/" if request.script_root else ""
    if not settings.page:
        return _root(base)
    accepted = request.accept_mimetypes
    wanted = accepted[HTML] > accepted["application/json"]
    response = _page(base) if wanted else _root(base)
    response.vary.add("Accept")
    return response


def _root(base: str) -> Response:
    links = {name: base + path.removeprefix("/") for name, path in _LINKED.items()}
    return json_answer(Root("alive", "labelserve", service.__version__, links))


def _page(base: str) -> Response:
    page = Response(render_template("page.html", base=base), mimetype=HTML)
    response = revalidated(page)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Permissions-Policy"] = "camera=(self)"
    return response


def _file(name: str, media_type: str) -> Response:
    return revalidated(Response(_content(name), mimetype=media_type))


@cache
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
