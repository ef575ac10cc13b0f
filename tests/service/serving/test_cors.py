"""Which answers a page of another origin may read."""

import pytest

from service.serving.cors import cors_headers

LIST = ("https://example.org", "http://localhost:3000")
ALLOW = "Access-Control-Allow-Origin"


@pytest.mark.parametrize("preflight", [False, True])
@pytest.mark.parametrize("origin", ["", "https://example.org"])
def test_without_origins_nothing_is_said(origin: str, *, preflight: bool) -> None:
    assert cors_headers((), origin, preflight=preflight) == {}


def test_an_allowed_origin_may_read_an_answer_and_its_headers() -> None:
    said = cors_headers(LIST, "http://localhost:3000", preflight=False)
    assert said == {
        "Vary": "Origin",
        ALLOW: "http://localhost:3000",
        "Access-Control-Expose-Headers": (
            "X-Request-ID, X-Model-Version, Retry-After, Inference-Header-Content-Length"
        ),
    }


def test_a_preflight_is_told_what_may_be_sent() -> None:
    said = cors_headers(LIST, "https://example.org", preflight=True)
    assert said[ALLOW] == "https://example.org"
    assert said["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
    sent = {
        "Authorization",
        "Content-Type",
        "X-API-Key",
        "X-Request-ID",
        "traceparent",
        "X-Canary-Key",
    }
    assert sent < set(said["Access-Control-Allow-Headers"].split(", "))
    assert int(said["Access-Control-Max-Age"]) > 60


@pytest.mark.parametrize("preflight", [False, True])
@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://example.org.evil.example",
        "http://example.org",
        "https://example.org:444",
    ],
)
def test_any_other_origin_is_told_nothing(origin: str, *, preflight: bool) -> None:
    """``Vary`` is for caches: they would give one origin's answer to another."""
    assert cors_headers(LIST, origin, preflight=preflight) == {"Vary": "Origin"}


def test_all_origins_share_an_answer() -> None:
    for origin in ("https://example.org", "null"):
        said = cors_headers(("*",), origin, preflight=False)
        assert said[ALLOW] == "*"
        assert "Vary" not in said
    assert cors_headers(("*",), "", preflight=False) == {}
