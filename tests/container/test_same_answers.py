"""The whole line, to its end: what Keras answers comes out of the container."""

import pytest

from service.inference.classifier import Classifier
from tests.container.conftest import Run
from tests.training.conftest import TrainedModel, trained_model

__all__ = ["trained_model"]  # a fixture


def test_keras_and_the_container_agree(
    run: Run,
    trained_model: TrainedModel,
) -> None:
    folder = trained_model.path.parent
    folder.chmod(0o755)  # the container's user is another one
    container = run(
        "--volume",
        f"{folder}:/models:ro",
        environment={"LABELSERVE_MODEL": f"/models/{trained_model.path.name}"},
    )
    container.wait_ready()
    labels = Classifier.load(trained_model.path).card.labels
    for data, row in zip(trained_model.files, trained_model.probabilities, strict=True):
        status, answer = container.ask("POST", "/predict", data)
        assert status == 200, answer
        found = {entry["label"]: entry["probability"] for entry in answer["predictions"]}
        assert [found[label] for label in labels] == pytest.approx(row.tolist(), abs=1e-5)
