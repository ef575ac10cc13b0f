"""What a file's metadata and the files beside it say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.adoption.networks import (
    LABELS,
    Network,
    adopt,
    agree,
    asked,
    imagenet,
    node,
    pictures,
    softmax,
)
from training.adoption import hints
from training.adoption.hints import Hints
from training.adoption.normalisation import PRESETS
from training.cli import main

FREE = ["N", 3, "h", "w"]
BY_NUMBER = {str(i): label for i, label in enumerate(LABELS)}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def beside(folder: Path, **files: Any) -> Hints:
    """Hints of a folder with these JSON files."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return hints.of_folder(folder)


def test_ultralytics(tmp_path: Path) -> None:
    """Names, size, pixels of 0 to 1 and a crop: nothing has to be told."""
    metadata = {"names": str(dict(enumerate(LABELS))), "imgsz": "[10, 12]", "task": "classify"}
    end = [node("Softmax", "logits", "output0", axis=1)]
    model = Network(FREE, end=end, outputs=["output0"]).save(tmp_path, metadata)
    classifier = adopt(model)
    card = classifier.card
    assert (card.labels, card.input.resize) == (LABELS, "crop")
    images = pictures(10, 12)
    seen = (images / 255).transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, images, asked(model, seen, "output0"))


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_ultralytics_of_another_task(
    tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Network().save(tmp_path, {"names": "{0: 'a'}", "task": task})
    assert main(["adopt", str(model)]) == 1
    assert task in capsys.readouterr().err


@pytest.mark.parametrize(
    ("range_", "shift", "divisor"),
    [("NominalRange_0_255", 0, 1), ("Normalized_0_1", 0, 255), ("Normalized_1_1", 127.5, 127.5)],
)
def test_onnx_image_keys(tmp_path: Path, range_: str, shift: float, divisor: float) -> None:
    metadata = {"Image.NominalPixelRange": range_, "Image.BitmapPixelFormat": "Bgr8"}
    model = Network(sharpness=0.02 if divisor == 1 else 1.0).save(tmp_path, metadata)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    classifier = adopt(model)
    assert classifier.card.labels == LABELS
    seen = (pictures()[..., ::-1] - shift) / divisor
    seen = seen.transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, pictures(), softmax(asked(model, seen)))


def test_hugging_face(tmp_path: Path) -> None:
    model = Network(FREE).save(tmp_path)
    files: dict[str, Any] = {
        "config": {"id2label": BY_NUMBER, "model_type": "resnet"},
        "preprocessor_config": {
            "image_mean": MEAN,
            "image_std": STD,
            "do_center_crop": True,
            "crop_size": {"width": 12, "height": 10},
            "size": {"shortest_edge": 16},
        },
    }
    beside(tmp_path, **files)
    classifier = adopt(model)
    assert classifier.card.labels == LABELS
    assert classifier.card.input.resize == "crop-0.625"
    assert classifier.card.provenance.config["pixels"].endswith("(preprocessor_config.json)")
    images = pictures(10, 12)
    agree(classifier, images, softmax(asked(model, imagenet(images))))


SIZES: dict[str, tuple[Mapping[str, Any], tuple[int, int] | None, str | None]] = {
    "a number": ({"size": 224}, (224, 224), "stretch"),
    "height and width": ({"size": {"width": 100, "height": 50}}, (50, 100), "stretch"),
    "the shorter edge": ({"size": {"shortest_edge": 224}}, (224, 224), "crop"),
    "a crop": (
        {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True},
        (224, 224),
        "crop-0.875",
    ),
    "no crop after all": (
        {"size": 224, "crop_size": {"height": 200, "width": 200}, "do_center_crop": False},
        (224, 224),
        "stretch",
    ),
    "ConvNeXt": ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), "crop-0.875"),
    "a large ConvNeXt": ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, (384, 384), "stretch"),
    "nearly all": (
        {"size": 22400, "crop_size": 4000, "do_center_crop": True},
        None,
        None,
    ),
    "no size": ({}, None, None),
}


@pytest.mark.parametrize("kind", SIZES)
def test_hugging_faces_sizes(tmp_path: Path, kind: str) -> None:
    content, size, resize = SIZES[kind]
    found = beside(tmp_path, preprocessor_config={"image_mean": MEAN, "image_std": STD, **content})
    assert (found.size and found.size.value) == size
    assert (found.resize and found.resize.value) == resize


PIXELS: dict[str, tuple[Mapping[str, Any], str | None]] = {
    "usual": ({"image_mean": MEAN, "image_std": STD}, "imagenet"),
    "of -1 to 1": ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, "tf"),
    "not normalised": ({"image_mean": MEAN, "image_std": STD, "do_normalize": False}, "unit"),
    "not rescaled": (
        {"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}
        | {"do_rescale": False},
        "imagenet",
    ),
    "neither": ({"do_normalize": False, "do_rescale": False, "size": 8}, "pixels"),
    "by another factor": (
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        "tf",
    ),
    "moved": ({"image_mean": MEAN, "image_std": STD, "rescale_offset": True}, None),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_hugging_faces_pixels(tmp_path: Path, kind: str) -> None:
    content, name = PIXELS[kind]
    found = beside(tmp_path, preprocessor_config=content)
    assert (found.pixels and found.pixels.value) == (PRESETS[name] if name else None)


@pytest.mark.parametrize("described", ["a list", "an object", "no"])
def test_timm(tmp_path: Path, described: str) -> None:
    model = Network(FREE).save(tmp_path)
    numbers = [f"n0000000{i}" for i in range(4)]
    about: Any = {"a list": [*LABELS], "an object": dict(zip(numbers, LABELS, strict=True))}
    config = {
        "architecture": "resnet18",
        "num_classes": 4,
        "label_names": numbers,
        "label_descriptions": about.get(described),
        "pretrained_cfg": {
            "input_size": [3, 10, 10],
            "mean": MEAN,
            "std": STD,
            "crop_pct": 0.95,
            "crop_mode": "center",
            "license": "apache-2.0",
        },
    }
    beside(tmp_path, config=config)
    classifier = adopt(model)
    card = classifier.card
    assert card.labels == (LABELS if described != "no" else tuple(numbers))
    assert card.input.resize == "crop-0.95"
    assert card.training_data.licence == "apache-2.0"
    images = pictures(10, 10)
    agree(classifier, images, softmax(asked(model, imagenet(images))))


def test_timm_that_squashes(tmp_path: Path) -> None:
    found = beside(tmp_path, config={"pretrained_cfg": {"crop_pct": 1.0, "crop_mode": "squash"}})
    assert found.resize
    assert found.resize.value == "stretch"


def test_a_model_in_its_folder(tmp_path: Path) -> None:
    """The folder as it was downloaded is enough to name."""
    folder = tmp_path / "resnet"
    folder.mkdir()
    Network().save(folder)
    (folder / "classes.txt").write_text("\n".join(LABELS))
    classifier = adopt(folder, "--preprocess", "tf", output=tmp_path / "o.onnx")
    assert classifier.card.labels == LABELS


STRANGE = {
    "labels.txt": "one\n\nthree",
    "config.json": '{"id2label": {"0": {}}, "pretrained_cfg": "none"}',
    "preprocessor_config.json": '{"image_mean": [0.5, "x"], "image_std": [1], "size": {"a": 1}}',
    "labels.json": "{",
    "class_indices.json": '{"a": 5}',
}
BROKEN = {
    "config.json": '{"pretrained_cfg": {"mean": 3, "std": []}, "label_names": 7}',
    "preprocessor_config.json": '{"image_mean": [0.5], "image_std": [0.5], "rescale_factor": 0}',
    "labels.txt": "\n",
}


@pytest.mark.parametrize("files", [STRANGE, BROKEN, dict.fromkeys(STRANGE, "\xff[")])
def test_files_of_something_else_stop_nothing(
    tmp_path: Path, files: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, "latin-1")
    model = Network(FREE).save(tmp_path, {"names": "what", "imgsz": "large"})
    words = ("--labels", ",".join(LABELS), "--preprocess", "tf", "--size", "8")
    assert adopt(model, *words).card.labels == LABELS
    said = capsys.readouterr().err
    for name in files:
        assert f"{name} beside the model is left out" in said


def test_options_win(tmp_path: Path) -> None:
    config = {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 20}}
    beside(tmp_path, preprocessor_config=config, config={"id2label": {"0": "x", "1": "y"}})
    model = Network(FREE).save(tmp_path)
    options = ("--labels", ",".join(LABELS), "--preprocess", "tf", "--size", "8")
    classifier = adopt(model, *options, "--resize", "stretch")
    assert classifier.card.labels == LABELS
    assert classifier.card.input.resize == "stretch"
    seen = (pictures() / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, pictures(), softmax(asked(model, seen)))


def test_labels_beside_it_of_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text("one\ntwo")
    model = Network().save(tmp_path)
    assert main(["adopt", str(model), "--preprocess", "tf"]) == 2
    assert "2 labels (labels.txt), but the graph tells 4" in capsys.readouterr().err
