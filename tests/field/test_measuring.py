"""Issue 17, 27: a figure is of images that the model was not trained on, and has its margin."""

import argparse
import json
import shutil
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from service.inference.contract import Figures, ModelCard
from tests.tiny_model import make_card, write_model
from tests.training.conftest import TrainedModel, fill_folder, image_file
from training.cli import main
from training.errors import DataError
from training.export import evaluation


def evaluate(model: Path, data: Path) -> Figures:
    return evaluation.evaluate(argparse.Namespace(model=model, data=data, strict=False))


@pytest.fixture
def trained(trained_model: TrainedModel, tmp_path: Path) -> tuple[Path, Path, ModelCard]:
    """A model file with its run folder, and the folder that it was trained on: copies."""
    source = trained_model.path.parent
    folder = shutil.copytree(source, tmp_path / "work")
    card = Classifier.load(trained_model.path).card
    return folder / trained_model.path.name, folder / "photos", card


def test_only_test_images_are_measured_on_the_folder_one_trained_on(
    trained: tuple[Path, Path, ModelCard], capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos, card = trained

    found = evaluate(model, photos)

    assert (found.split, found.images) == ("test", card.figures.images) == ("test", 6)
    assert found.accuracy == card.figures.accuracy
    assert found.per_label == card.figures.per_label
    said = capsys.readouterr().err
    assert "30 of 36 images are left out, as the model was trained with them:" in said
    assert f"  {photos}/blue/" in said
    assert "  and 20 more" in said


def test_a_report_on_the_folder_one_trained_on_leaves_them_out_too(
    trained: tuple[Path, Path, ModelCard], tmp_path: Path
) -> None:
    model, photos, _ = trained
    page = tmp_path / "report.html"

    assert main(["report", str(model), "--data", str(photos), "--output", str(page)]) == 0

    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "Measured on 6 images of" in text
    assert "Left out are 30 others" in text


def test_what_the_folder_has_gained_is_measured_too(
    trained: tuple[Path, Path, ModelCard], capsys: pytest.CaptureFixture[str]
) -> None:
    """And whatever the files and the folder are called by now."""
    model, photos, _ = trained
    photos = photos.rename(photos.with_name("pets"))
    for path in [*photos.glob("red/*")]:
        path.rename(path.with_name("a" + path.name))
    for i in range(5):
        (photos / "red" / f"0{i}.png").write_bytes(image_file("red", 50 + i))

    found = evaluate(model, photos)

    assert (found.split, found.images) == ("test", 11)
    assert found.per_label["red"].support == 7
    assert "30 of 41 images are left out" in capsys.readouterr().err


def test_without_the_run_folder_the_card_splits_again(
    trained: tuple[Path, Path, ModelCard], capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos, card = trained
    shutil.rmtree(model.with_suffix(""))

    found = evaluate(model, photos)

    assert (found.split, found.images) == ("test", card.figures.images)
    assert found.per_label == card.figures.per_label
    assert "30 of 36 images are left out" in capsys.readouterr().err


def test_without_the_run_folder_a_changed_folder_is_told(
    trained: tuple[Path, Path, ModelCard], capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos, _ = trained
    shutil.rmtree(model.with_suffix(""))
    (photos / "red" / "new.png").write_bytes(image_file("red", 50))

    found = evaluate(model, photos)

    assert (found.split, found.images) == ("all", 37)
    assert "how many of its images the model has seen is not known" in capsys.readouterr().err


def test_a_folder_of_seen_images_alone_is_measured_with_a_warning(
    trained: tuple[Path, Path, ModelCard], capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos, _ = trained
    evaluate(model, photos)
    seen = [line.strip() for line in capsys.readouterr().err.splitlines() if "photos/blue" in line]
    for path in photos.rglob("*.*"):
        if str(path) not in seen:
            path.unlink()
    for label in ("green", "red"):
        (photos / label).rmdir()

    found = evaluate(model, photos)

    assert (found.split, found.images) == ("seen", len(seen))
    assert f"warning: the model was trained with all of these {len(seen)}" in (
        capsys.readouterr().err
    )


def test_other_images_are_measured_without_a_word(
    trained: tuple[Path, Path, ModelCard], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(trained[0], fill_folder(tmp_path / "others", images=4))

    assert (found.split, found.images) == ("all", 12)
    assert "left out" not in capsys.readouterr().err


def test_one_label_can_be_measured(tiny_model: Path, tmp_path: Path) -> None:
    found = evaluate(tiny_model, fill_folder(tmp_path / "photos", labels=("red",)))

    assert found.images == found.per_label["red"].support == 12


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Red", r"rename 'Red' to 'red'"),
        ("reds", r"rename 'reds' to 'red'"),
        ("zebra", "it knows red, green, blue"),
    ],
)
def test_a_label_that_is_nearly_known_gets_a_hint(
    tiny_model: Path, tmp_path: Path, name: str, hint: str
) -> None:
    folder = fill_folder(tmp_path / "photos")
    (folder / "red").rename(folder / name)

    with pytest.raises(DataError, match=f"does not know: {name}; {hint}"):
        evaluate(tiny_model, folder)


def test_one_folder_too_high_is_told_when_measuring(tiny_model: Path, tmp_path: Path) -> None:
    fill_folder(tmp_path / "data" / "Dataset")
    fill_folder(tmp_path / "data" / "Examples", images=1)

    with pytest.raises(DataError, match=rf"give --data {tmp_path}/data/Dataset$"):
        evaluate(tiny_model, tmp_path / "data")


def test_known_labels_may_hold_folders_alone(tiny_model: Path, tmp_path: Path) -> None:
    """What training asks about, the card answers."""
    for year in ("2019", "2020"):
        for label in ("red", "blue"):
            fill_folder(tmp_path / label / year, images=1, labels=(label,))

    assert evaluate(tiny_model, tmp_path).images == 4


def test_accuracy_is_printed_with_its_margin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """98.0 % of 50 may be 90 % or 99.6 % of many."""
    model = write_model(tmp_path / "m.onnx", make_card())
    folder = fill_folder(tmp_path / "photos", images=49, labels=("red",))
    (folder / "red" / "blue.png").write_bytes(image_file("blue", 0))

    assert main(["evaluate", str(model), "--data", str(folder)]) == 0
    assert "accuracy           0.9800 (0.8950 to 0.9965, 95 % sure)" in capsys.readouterr().out
    assert main(["evaluate", str(model), "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy_interval"] == pytest.approx(
        [0.8950, 0.9965], abs=5e-5
    )
