import argparse
from pathlib import Path

import numpy as np
import pytest

from service.inference.classifier import Classifier
from service.inference.contract import NOTHING_MEASURED, LabelFigures, ReliabilityBin
from tests.training.conftest import TrainedModel, fill_folder
from training.errors import DataError
from training.export import evaluation


def options(model: Path, data: Path, *, strict: bool = False) -> argparse.Namespace:
    return argparse.Namespace(model=model, data=data, strict=strict)


def test_figures_of_known_answers() -> None:
    answers = np.array([0, 0, 0, 1, 0])
    probabilities = np.eye(4, dtype=np.float32)[answers]
    targets = np.array([0, 0, 1, 1, 2])

    found = evaluation.figures(probabilities, targets, "abcd", split="test", parity=1e-7)

    assert (found.split, found.images, found.parity) == ("test", 5, 1e-7)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.calibration_error == pytest.approx(2 / 5)
    assert found.per_label == {
        "a": LabelFigures(precision=2 / 4, recall=1.0, support=2),
        "b": LabelFigures(precision=1.0, recall=1 / 2, support=2),
        "c": LabelFigures(precision=None, recall=0.0, support=1),
        "d": LabelFigures(precision=None, recall=None, support=0),
    }


def test_the_accuracy_in_words() -> None:
    probabilities = np.repeat(np.array([[0.75, 0.25]], np.float32), 50, axis=0)
    targets = np.array([0] * 49 + [1])
    found = evaluation.figures(probabilities, targets, "ab", split="test", parity=0.0)
    assert found.reliability == (ReliabilityBin(0.75, 0.75, 0.98, 50),)
    said = "accuracy 98.00 % (89.5 to 99.6, 95 % sure) on 50 test images"
    assert evaluation.accuracy_text(found) == said
    assert evaluation.accuracy_text(NOTHING_MEASURED) == "nothing was measured"


def test_a_model_that_claims_nothing_is_measured(tiny_model: Path, tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=2)

    found = evaluation.evaluate(options(tiny_model, folder))

    assert (found.split, found.images, found.accuracy, found.parity) == ("all", 6, 1.0, None)


def test_a_table_says_what_is_undefined() -> None:
    probabilities = np.array([[0.75, 0.25]], np.float32)

    lines = evaluation.table(
        evaluation.figures(probabilities, np.array([0]), "ab", split="all", parity=None)
    ).splitlines()

    assert lines[:3] == [
        "images             1 (all)",
        "accuracy           1.0000 (0.2065 to 1.0000, 95 % sure)",
        "calibration error  0.2500",
    ]
    assert lines[-2].split() == ["1.000", "1.000", "1", "a"]
    assert lines[-1].split() == ["-", "-", "0", "b"]


def test_batches_are_put_together_in_order(
    trained_model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 4)

    probabilities = evaluation.predict(Classifier.load(trained_model.path), trained_model.images)

    np.testing.assert_allclose(probabilities, trained_model.probabilities, atol=1e-5)


def test_labels_missing_from_the_folder_keep_their_places(
    trained_model: TrainedModel, tmp_path: Path
) -> None:
    every = fill_folder(tmp_path / "every")
    some = fill_folder(tmp_path / "some", labels=("green", "red"))

    whole = evaluation.evaluate(options(trained_model.path, every))
    part = evaluation.evaluate(options(trained_model.path, some))

    assert part.images == 24
    assert part.per_label["green"].recall == whole.per_label["green"].recall
    assert part.per_label["blue"].support == 0


def test_the_test_images_of_a_split_folder_are_used(
    trained_model: TrainedModel, tmp_path: Path
) -> None:
    fill_folder(tmp_path / "train", images=2)
    fill_folder(tmp_path / "test", images=5)

    found = evaluation.evaluate(options(trained_model.path, tmp_path))

    assert (found.split, found.images) == ("test", 15)


def test_labels_that_the_model_does_not_know_are_named(
    trained_model: TrainedModel, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "photos")
    (folder / "red").rename(folder / "scarlet")

    with pytest.raises(DataError, match="scarlet"):
        evaluation.evaluate(options(trained_model.path, folder))
