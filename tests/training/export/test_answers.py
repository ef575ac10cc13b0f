"""A folder's images, asked as the service would be."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from service.inference.classifier import Classifier
from tests.training.conftest import fill_folder
from training.errors import DataError
from training.export import answers, evaluation


def test_a_folder_is_answered_as_evaluate_does(
    tiny_classifier: Classifier, tiny_model: Path, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "photos", images=7)
    broken = folder / "red" / "0003.png"
    broken.write_bytes(broken.read_bytes()[:50])

    found = answers.ask(tiny_classifier, folder)

    options = argparse.Namespace(model=tiny_model, data=folder, strict=False)
    expected = evaluation.evaluate(options)
    assert len(found.paths) == expected.images == 20
    assert found.accuracy == pytest.approx(expected.accuracy)
    assert not found.is_test
    (line,) = found.unreadable
    assert line.startswith("red/0003.png: ")
    assert " at 0x" not in line
    assert {found.labels[t] for t, p in zip(found.targets, found.paths, strict=True)} == {
        "red",
        "green",
        "blue",
    }
    for target, path in zip(found.targets, found.paths, strict=True):
        assert found.labels[target] == path.parent.name


def test_a_folder_in_parts_is_asked_for_its_test_images(
    tiny_classifier: Classifier, tmp_path: Path
) -> None:
    fill_folder(tmp_path / "Train", images=1)
    fill_folder(tmp_path / "val", images=2)

    without = answers.ask(tiny_classifier, tmp_path)
    fill_folder(tmp_path / "TEST", images=3)
    found = answers.ask(tiny_classifier, tmp_path)

    assert (len(without.paths), len(found.paths)) == (6, 9)
    assert without.is_test
    assert found.is_test
    assert found.folder == tmp_path / "TEST"


def test_answers_stay_with_their_files_over_many_batches(
    tiny_classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill_folder(tmp_path / "photos", images=7)
    whole = answers.ask(tiny_classifier, folder)
    monkeypatch.setattr(answers, "BATCH", 2)

    parts = answers.ask(tiny_classifier, folder)

    assert parts.paths == whole.paths
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)


def test_labels_that_the_model_does_not_know_are_named(
    tiny_classifier: Classifier, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "photos")
    (folder / "red").rename(folder / "scarlet")

    with pytest.raises(DataError, match="scarlet"):
        answers.ask(tiny_classifier, folder)


def test_an_unreadable_image_ends_a_strict_look(
    tiny_classifier: Classifier, tmp_path: Path
) -> None:
    folder = fill_folder(tmp_path / "photos")
    (folder / "red" / "0001.png").write_bytes(b"\x89PNG")

    with pytest.raises(DataError, match=r"0001\.png: .*--strict"):
        answers.ask(tiny_classifier, folder, strict=True)
