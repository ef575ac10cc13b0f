"""Routes that take images: the fast way and Flask's way find the same."""

from pathlib import Path

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from service.http.app import create_app
from service.http.current import endpoints_of
from service.http.endpoints import Endpoint
from service.inference.classifier import Classifier
from service.runtime.shared_state import SharedState, WorkerSlot
from service.settings import Settings

WORDS = st.sampled_from(["predict", "batch", "v1", "v2", "models", "versions", "labels", "infer"])
NAMES = st.one_of(WORDS, st.text("aß:./ %{<\n", max_size=4), st.just("tiny:predict"))


@pytest.fixture(scope="module")
def app(tiny_model: Path, tiny_classifier: Classifier) -> Flask:
    slot = WorkerSlot(SharedState(1), 0)
    return create_app(Settings(model=tiny_model, workers=1), tiny_classifier, slot)


@given(data=st.data())
def test_both_workers_find_the_same_route(app: Flask, data: st.DataObject) -> None:
    endpoints = endpoints_of(app)
    routes = st.sampled_from([one.route for one in endpoints.each])
    names = {"name": data.draw(NAMES), "version": data.draw(NAMES), "label": data.draw(NAMES)}
    written = data.draw(routes).format(**names)
    path = data.draw(st.sampled_from([written, written + "/", "/".join(names.values())]))
    path = "/" + path.lstrip("/")  # as every server reads it
    found = endpoints.find("POST", path)
    try:
        rule, arguments = app.url_map.bind("").match(path, "POST")
    except HTTPException:
        assert found is None
    else:
        by_flask = rule in {one.route for one in endpoints.each}
        assert (found is not None) is by_flask
        if found is not None:
            assert (found.endpoint.route, found.arguments) == (rule, arguments)


def test_a_route_for_images_answers_post_alone(app: Flask) -> None:
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        assert endpoints_of(app).find(method, "/predict") is None


def test_a_path_fits_as_a_whole() -> None:
    def check_head(_content_type: str, _length: int | None) -> int:
        return 0

    pattern = Endpoint(
        "/v1/{name}:predict", check_head, lambda request: pytest.fail(str(request))
    ).pattern
    assert pattern.fullmatch("/v1/a.b:predict")
    for path in ("/v1/:predict", "/v1/a:predictx", "/v1/a/b:predict", "/v1/aXpredict"):
        assert pattern.fullmatch(path) is None
