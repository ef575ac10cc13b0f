"""GET /openapi.json and GET /docs, under both workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.http.openapi.document import document
from service.http.openapi.page import content_security_policy
from service.settings import Settings
from tests.server import WORKERS, Server, raw_request, start_server

PAGES = {"/openapi.json": "application/json", "/docs": "text/html; charset=utf-8"}


@pytest.fixture(scope="module", params=WORKERS)
def guarded(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, worker=request.param, api_keys="a-key") as running:
        yield running


def test_the_description_is_that_of_the_service(guarded: Server) -> None:
    answer = guarded.get("/openapi.json").json()
    assert answer["security"] == [{"bearer": []}, {"key": []}]
    assert answer["paths"].keys() == document(Settings())["paths"].keys()


@pytest.mark.parametrize("path", PAGES)
def test_open_and_kept_until_it_changes(guarded: Server, path: str) -> None:
    first = guarded.get(path)
    assert first.status == 200
    assert first.headers["Content-Type"] == PAGES[path]
    assert first.headers["Cache-Control"] == "no-cache"
    etag = first.headers["ETag"]
    for known in (etag, f'W/{etag}, "other"', "*"):
        again = guarded.get(path, {"If-None-Match": known})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == etag
        assert "Content-Length" not in again.headers
        assert "Content-Type" not in again.headers
    assert guarded.get(path, {"If-None-Match": '"other"'}).body == first.body


@pytest.mark.parametrize("path", PAGES)
def test_the_connection_goes_on_behind_304(guarded: Server, path: str) -> None:
    etag = guarded.get(path).headers["ETag"]
    with guarded.wire() as wire:
        for _ in range(2):
            wire.send(raw_request(path, method="GET", headers={"If-None-Match": etag}))
            assert wire.reply().status == 304
        wire.send(raw_request(path, method="HEAD"))
        head = wire.reply("HEAD")
        assert head.status == 200
        assert int(head.headers["Content-Length"]) > 1000
        assert head.headers["ETag"] == etag
        wire.send(raw_request("/health/live", method="GET"))
        assert wire.reply().json() == {"status": "live"}


def test_only_the_page_may_use_a_style(guarded: Server) -> None:
    assert guarded.get("/docs").headers["Content-Security-Policy"] == content_security_policy()
    strict = guarded.get("/openapi.json").headers
    assert strict["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert strict["X-Content-Type-Options"] == "nosniff"
