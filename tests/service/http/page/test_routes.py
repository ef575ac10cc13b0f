"""GET /: the page for browsers, JSON for all others, under both workers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import service
from service.http.app import create_app
from service.http.openapi.document import document
from service.http.page.routes import POLICY
from service.inference.classifier import Classifier
from service.settings import Settings
from tests.server import ROOT, WORKERS, Server, start_server

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FOLDER = ROOT / "service" / "http" / "page"
FILES = {"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}
ORIGIN = "https://example.org"


@pytest.fixture(scope="module", params=WORKERS)
def guarded(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(
        tiny_model, worker=request.param, api_keys="a-key", cors_origins=ORIGIN, root_path="/a/b"
    ) as running:
        yield running


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/*", "image/png", "text/html;q=0.2,*/*"]
)
def test_programs_are_told_what_this_is(guarded: Server, accept: str | None) -> None:
    reply = guarded.get("/", {"Accept": accept} if accept else {})
    assert reply.status == 200
    told = reply.json()
    assert (told["status"], told["name"]) == ("alive", "labelserve")
    assert told["version"] == service.__version__
    for link in told["links"].values():
        assert guarded.get(f"/{link}", {"X-API-Key": "a-key"}).status in (200, 405), link
    assert "Accept" in reply.headers["Vary"]
    assert reply.headers["Cache-Control"] == "no-store"


def test_links_hold_below_the_root_path(guarded: Server) -> None:
    for path in ("/a/b", "/a/b/"):
        assert guarded.get(path).json()["links"]["docs"] == "/a/b/docs"
        assert b'<base href="/a/b/">' in guarded.get(path, BROWSER).body
    assert guarded.get("/").json()["links"]["docs"] == "docs"
    assert b"<base" not in guarded.get("/", BROWSER).body


def test_browsers_get_the_page(guarded: Server) -> None:
    reply = guarded.get("/", BROWSER)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Content-Security-Policy"] == POLICY
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert {name.strip() for name in reply.headers["Vary"].split(",")} == {"Accept", "Origin"}


def test_open_and_kept_until_they_change(guarded: Server) -> None:
    for path, media_type in {"/": "text/html; charset=utf-8", **FILES}.items():
        first = guarded.get(path, BROWSER)
        assert (first.status, first.headers["Content-Type"]) == (200, media_type)
        assert first.headers["Cache-Control"] == "no-cache"
        again = guarded.get(path, {**BROWSER, "If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert ("Accept" in again.headers["Vary"]) == (path == "/")


@pytest.mark.parametrize("headers", [{}, BROWSER])
def test_head_as_load_balancers_ask(guarded: Server, headers: dict[str, str]) -> None:
    head = guarded.ask("HEAD", "/", headers=headers)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(guarded.get("/", headers).body))


def test_without_the_page(tiny_classifier: Classifier) -> None:
    client = create_app(Settings(page=False), tiny_classifier).test_client()
    answer = client.get("/", headers=BROWSER)
    assert answer.json is not None
    assert answer.json["status"] == "alive"
    assert [client.get(path).status_code for path in FILES] == [404, 404]
    described = document(Settings(page=False))["paths"]
    assert not described.keys() & FILES.keys()
    assert described["/"]["get"]["responses"]["200"]["content"].keys() == {"application/json"}


def test_a_platform_may_ask_the_root_whether_the_service_is_ready(
    tiny_classifier: Classifier,
) -> None:
    app = create_app(Settings(platform_health_route="/"), tiny_classifier)
    assert app.test_client().get("/").status_code == 200
    app.extensions["labelserve"].slot.set_ready(ready=False)
    assert app.test_client().get("/").status_code == 503
    other = create_app(Settings(), tiny_classifier)
    other.extensions["labelserve"].slot.set_ready(ready=False)
    assert other.test_client().get("/").status_code == 200


def test_it_is_small() -> None:
    sizes = [
        path.stat().st_size for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")
    ]
    assert len(sizes) == 3
    assert sum(sizes) < 40_000


def test_nothing_comes_from_elsewhere_and_all_addresses_are_relative() -> None:
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r'(?:href|src)="([^"{]+)"', page))
    assert addresses == {"page.css", "page.js", "data:,", "docs", "openapi.json", "model"}
    assert not re.search(r"<style|\bstyle=|\son\w+=|<script(?! src=)", page)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    asked = re.findall(r'(?:ask|fetch|read|path|URL)\(["`]([^"`?$]+)', script)
    assert set(asked) == {"predict", "model", "models", "examples", "explain"}
    for name in ("page.css", "page.js"):
        assert not re.search(r"https?://|@import|innerHTML", (FOLDER / name).read_text("utf-8")), (
            name
        )
