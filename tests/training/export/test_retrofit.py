"""python -m training familiarity: for a file that was made without it."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from tests.training.conftest import TrainedModel, fill_folder
from training import calibration
from training.cli import main
from training.export import cards, familiarity


@pytest.fixture
def model(trained_model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a file without familiarity, trained on 27 images of `data`, 3 held back."""
    monkeypatch.setattr(familiarity, "LEAST_HELD_BACK", 3)
    return Path(shutil.copy(trained_model.path, tmp_path / "model.onnx"))


@pytest.fixture
def data(trained_model: TrainedModel) -> Path:
    return trained_model.path.parent / "photos"


def test_what_is_added_changes_nothing_else(
    model: Path, data: Path, trained_model: TrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Classifier.load(model)

    assert main(["familiarity", str(model), "--data", str(data)]) == 0

    after = Classifier.load(model)
    told = after.card.familiarity
    assert told is not None
    assert (told.threshold, told.held_back, told.strangers) == (0.01, 3, {})
    assert f"as {told.false_alarms:.2%} of the test images are" in capsys.readouterr().err
    assert after.card.version != before.card.version
    kept = msgspec.structs.replace(after.card, familiarity=None, version=before.card.version)
    assert kept == before.card
    images = trained_model.images
    np.testing.assert_array_equal(after.predict(images), before.predict(images))
    assert after.run(images).familiarity is not None


def test_a_file_of_the_first_schema_gets_its_curve(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LEAST_IN_BIN", 3)
    card = msgspec.structs.replace(Classifier.load(model).card, schema=1)
    cards.save(onnx.load(model), card, model)

    assert main(["familiarity", str(model), "--data", str(data)]) == 0

    after = Classifier.load(model).card
    assert after.schema == 2
    curve = after.figures.reliability
    assert sum(each.images for each in curve) == after.figures.images == 6
    assert sum(each.images * each.right for each in curve) == pytest.approx(
        6 * (after.figures.accuracy or 0)
    )
    assert msgspec.structs.replace(after.figures, reliability=()) == card.figures


def test_examples_are_what_is_said(model: Path, data: Path) -> None:
    """Not of one's own images unless it is said; kept until it is said that they are not."""

    def examples(*words: str) -> tuple[str, ...]:
        assert main(["familiarity", str(model), "--data", str(data), *words]) == 0
        return tuple(example.label for example in Classifier.load(model).card.examples)

    assert examples() == ()
    shown = examples("--examples")
    assert shown == ("blue", "blue", "green", "green", "red", "red")
    assert examples() == shown
    assert examples("--no-examples") == ()


def test_it_can_be_made_again_elsewhere(model: Path, data: Path, tmp_path: Path) -> None:
    assert main(["familiarity", str(model), "--data", str(data)]) == 0
    first, other = model.read_bytes(), tmp_path / "other.onnx"
    assert main(["familiarity", str(model), "--data", str(data), "--output", str(other)]) == 0
    assert other.read_bytes() == first == model.read_bytes()


def test_strangers_are_measured(model: Path, data: Path, tmp_path: Path) -> None:
    strangers = tmp_path / "checks" / "deeper"
    strangers.mkdir(parents=True)
    for side in (1, 2, 4, 8):
        checks = np.indices((32, 32)).sum(axis=0) // side % 2 * 255
        Image.fromarray(checks.astype(np.uint8)).save(strangers / f"{side}.png")
    (strangers / "broken.png").write_bytes(b"no image")
    words = ["familiarity", str(model), "--data", str(data), "--strangers"]

    assert main([*words, str(strangers.parent)]) == 0

    classifier = Classifier.load(model)
    assert classifier.card.familiarity is not None
    ((name, found),) = classifier.card.familiarity.strangers.items()
    assert (name, found.images) == ("checks", 4)
    assert 0 <= found.auroc <= 1
    assert 0 <= found.passed <= 1
    assert main(words[:-1]) == 0
    assert Classifier.load(model).card.familiarity == classifier.card.familiarity


@pytest.mark.parametrize("is_known", [False, True])
def test_a_folder_that_cannot_be_used(
    model: Path, data: Path, tmp_path: Path, is_known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that the model was not trained on; one without strangers in it."""
    before = model.read_bytes()
    (tmp_path / "empty").mkdir()
    other = data if is_known else fill_folder(tmp_path / "other", images=20)
    words = ["familiarity", str(model), "--data", str(other)]

    assert main([*words, "--strangers", str(tmp_path / "empty")]) == 1

    message = "none of the images of" if is_known else "which of its images were held back"
    assert message in capsys.readouterr().err
    assert model.read_bytes() == before


def test_too_few_held_back(
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(familiarity, "LEAST_HELD_BACK", 4)
    assert main(["familiarity", str(model), "--data", str(data)]) == 1
    assert "3 are there, 4 are the least" in capsys.readouterr().err
