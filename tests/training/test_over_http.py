"""The whole line: train a step, export, serve; the same images, the same probabilities."""

import numpy as np
import pytest

from service.inference.classifier import Classifier
from tests.server import start_server
from tests.training.conftest import TrainedModel


def test_keras_classifier_and_http_agree(trained_model: TrainedModel) -> None:
    classifier = Classifier.load(trained_model.path)
    labels = classifier.card.labels
    offline = classifier.predict(trained_model.images)
    np.testing.assert_allclose(offline, trained_model.probabilities, atol=1e-5)
    with start_server(trained_model.path) as server:
        for data, row in zip(trained_model.files, offline, strict=True):
            answer = server.post("/predict", data).json()
            found = {entry["label"]: entry["probability"] for entry in answer["predictions"]}
            assert [found[label] for label in labels] == pytest.approx(row.tolist(), abs=1e-6)
            assert answer["model"]["version"] == classifier.card.version
