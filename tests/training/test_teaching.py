import dataclasses
import re

import numpy as np
import pytest

from service.inference.classifier import Classifier
from tests.training.conftest import TrainedModel
from training import checkpoint, datasets, fit
from training.config import TrainConfig
from training.datasets import Dataset
from training.errors import DataError
from training.teaching import lessons, softened


@pytest.fixture
def config(config: TrainConfig, trained_model: TrainedModel) -> TrainConfig:
    return dataclasses.replace(
        config, image_size=(32, 32), teacher=trained_model.path, teaching=1.0, softening=1.0
    )


@pytest.fixture
def dataset(config: TrainConfig) -> Dataset:
    return datasets.load(config)


def test_the_teacher_is_asked_about_each_image_and_its_mirror_image(
    config: TrainConfig, dataset: Dataset, trained_model: TrainedModel
) -> None:
    found = lessons(config, dataset)

    assert found is not None
    assert found.shape == (27, 2, 3)
    images = dataset.train.images[:]
    teacher = Classifier.load(trained_model.path)
    np.testing.assert_allclose(found[:, 0], teacher.predict(images), atol=1e-6)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    np.testing.assert_allclose(found[:, 1], teacher.predict(mirrored), atol=1e-6)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 1e-4


def test_without_a_teacher_there_is_no_lesson(config: TrainConfig, dataset: Dataset) -> None:
    assert lessons(dataclasses.replace(config, teacher=None), dataset) is None


def test_softening_divides_the_logits() -> None:
    logits = np.array([[4.0, 0.0, -2.0], [-60.0, 60.0, 0.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    found = softened(probabilities.astype(np.float32), 4.0)

    expected = np.exp(logits / 4) / np.exp(logits / 4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_a_pupil_becomes_like_its_teacher_and_not_like_the_labels(
    config: TrainConfig, dataset: Dataset
) -> None:
    """Taught alone, and by wrong answers only, it says what it was taught."""
    answers = np.full((27, 2, 3), 0.05, np.float32)
    wrong = (dataset.train.targets + 1) % 3
    answers[np.arange(27), :, wrong] = 0.9
    config = dataclasses.replace(config, epochs=8, learning_rate=0.005, dropout=0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "lessons", lambda *_: answers)
        fit.fit(config, dataset)

    saved = checkpoint.load(config.run_folder)
    assert saved is not None
    assert saved.log[-1].loss < 0.7
    assert saved.log[-1].accuracy < 0.3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ("blue", "green", "pink")}, "knows other labels: blue, green, red"),
        ({}, "takes images of 32x32"),
    ],
)
def test_a_teacher_of_something_else_is_refused(
    config: TrainConfig, dataset: Dataset, changes: dict[str, tuple[str, ...]], said: str
) -> None:
    other = dataclasses.replace(dataset, **changes)  # type: ignore[arg-type]

    with pytest.raises(DataError, match=re.escape(said)):
        lessons(dataclasses.replace(config, image_size=(48, 48)), other)
