"""A path that a proxy does not strip, by the application alone."""

from collections.abc import Callable

import pytest

from service.http.app import create_app
from service.http.root_path import split_root
from service.inference.classifier import Classifier
from service.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("path", "root", "rest"),
    [
        ("/a/b/predict", "/a/b", "/predict"),
        ("/a/b", "/a/b", "/"),
        ("/a/b/", "/a/b", "/"),
        ("/a/b//predict", "/a/b", "/predict"),
        ("/a/bc", "", "/a/bc"),
        ("/a", "", "/a"),
        ("/predict", "", "/predict"),
        ("/a/b/a/b/x", "/a/b", "/a/b/x"),
    ],
)
def test_a_path_is_split_once(path: str, root: str, rest: str) -> None:
    assert split_root("/a/b", path) == (root, rest)


def test_the_application_answers_below_the_path(tiny_classifier: Classifier) -> None:
    client = create_app(Settings(root_path="/classify"), tiny_classifier).test_client()
    for path in ("/model", "/classify/model"):
        assert client.get(path).status_code == 200
    assert client.get("/classify/classify/model").status_code == 404
    assert client.get("/classify").json["links"]["model"] == "/classify/model"  # type: ignore[index]


def test_a_server_that_has_split_the_path_is_believed(tiny_classifier: Classifier) -> None:
    app = create_app(Settings(root_path="/classify"), tiny_classifier)
    statuses: list[str] = []

    def start(status: str, *_more: object) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _data: None

    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/classify",
        "PATH_INFO": "/classify/model",
        "SERVER_NAME": "a",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }
    b"".join(app.wsgi_app(environ, start))
    assert statuses == ["404 NOT FOUND"]


def test_a_platforms_health_route_opens_no_other_one(tiny_classifier: Classifier) -> None:
    for route in ("/predict", "/model"):
        with pytest.raises(SettingsError, match=f"AIP_HEALTH_ROUTE={route} is another route"):
            create_app(Settings(platform_health_route=route), tiny_classifier)
    for route in ("/health", "/ping", "/v1/endpoints/7"):
        app = create_app(Settings(platform_health_route=route), tiny_classifier)
        assert app.test_client().get(route).json["status"] == "ready"  # type: ignore[index]
