"""GET /model and /model/examples: a card that is small, and the images that its file has."""

import base64

import msgspec
import pytest
from flask.testing import FlaskClient
from PIL import Image

from service.http.app import create_app
from service.inference.classifier import Classifier
from service.inference.contract import Example, ModelCard
from service.settings import Settings
from tests.images import encode
from tests.tiny_model import make_card, write_model


def example(colour: str) -> Example:
    file = encode(Image.new("RGB", (8, 8), colour), "PNG")
    return Example(colour, f"data:image/png;base64,{base64.b64encode(file).decode()}")


CARD = msgspec.structs.replace(
    make_card(), schema=2, examples=tuple(map(example, ("red", "green", "blue")))
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(write_model(tmp_path_factory.mktemp("model") / "model.onnx", CARD))


@pytest.fixture
def client(classifier: Classifier) -> FlaskClient:
    return create_app(Settings(), classifier).test_client()


def test_the_card_has_no_images(client: FlaskClient) -> None:
    found = ModelCard.from_json(client.get("/model").data)
    assert found == CARD.without_images()
    assert [one.label for one in found.examples] == ["red", "green", "blue"]


def test_the_images_are_what_predict_takes(client: FlaskClient) -> None:
    answer = client.get("/model/examples").json
    assert client.get(f"/models/{CARD.name}/examples?version=1").json == answer
    assert client.get("/models/another/examples").status_code == 404
    assert answer is not None
    assert answer["model"] == {"name": CARD.name, "version": CARD.version}
    assert answer["examples"] == [msgspec.to_builtins(one) for one in CARD.examples]
    for one in answer["examples"]:
        found = client.post("/predict", json={"image": one["image"]}).json
        assert found is not None
        assert found["predictions"][0]["label"] == one["label"]


def test_they_are_kept_until_the_model_is_another(
    client: FlaskClient, tiny_classifier: Classifier
) -> None:
    first = client.get("/model/examples")
    assert first.headers["Cache-Control"] == "no-cache"
    known = {"If-None-Match": first.headers["ETag"]}
    again = client.get("/model/examples", headers=known)
    assert (again.status_code, again.data) == (304, b"")
    other = create_app(Settings(), tiny_classifier).test_client()
    found = other.get("/model/examples", headers=known)
    assert found.status_code == 200
    assert found.json is not None
    assert found.json["examples"] == []


@pytest.mark.parametrize(
    "path", ["/model", "/model/examples", "/models", "/models/{name}", "/models/{name}/examples"]
)
@pytest.mark.parametrize("is_open", [False, True])
def test_images_are_as_open_as_the_card(classifier: Classifier, path: str, is_open: bool) -> None:
    settings = Settings(api_keys=("a-key",), open_model=is_open)
    client = create_app(settings, classifier).test_client()
    path = path.format(name=classifier.card.name)
    assert client.get(path).status_code == (200 if is_open else 401)
    assert client.get(path, headers={"X-API-Key": "a-key"}).status_code == 200
