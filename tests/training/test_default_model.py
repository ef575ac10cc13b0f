"""The model in the repository, that a fresh clone serves."""

import argparse
import base64
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import ModelCard
from service.inference.imaging import decode_image
from tests.cifar10 import cifar_test_jpegs
from training.config import TEST_FRACTION, flag_of, from_options
from training.data.cifar10 import LABELS
from training.export.evaluation import outputs
from training.export.familiarity import without_familiarity
from training.fitting import distillation, muon
from training.networks import whitening
from training.options import add_options

MODEL = Path(__file__).parents[2] / "models" / "default.onnx"


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier.load(MODEL)


@pytest.fixture(scope="module")
def card(model: Classifier) -> ModelCard:
    return model.card


def test_the_readable_card_is_the_one_in_the_file(card: ModelCard) -> None:
    assert json.loads(MODEL.with_suffix(".json").read_bytes()) == json.loads(
        card.without_images().to_json()
    )


def test_it_is_small_and_good_enough(card: ModelCard) -> None:
    assert MODEL.stat().st_size < 8_000_000
    assert card.labels == LABELS
    assert card.figures.split == "test"
    assert card.figures.images == 10_000
    assert (card.figures.accuracy or 0) >= 0.915
    assert 0 < (card.figures.calibration_error or 0) <= 0.01
    assert 0 < (card.figures.parity or 0) <= 0.2  # in 8-bit integers
    assert "JPEG edition" in card.training_data.name


@pytest.fixture(scope="module")
def test_images(model: Classifier) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Labels and pixels of a tenth of the test images."""
    labels, files = zip(*cifar_test_jpegs(1000), strict=True)
    size, rule = model.input_size, model.card.input.resize
    return labels, np.stack([decode_image(file, size, rule).pixels for file in files])


def test_its_accuracy_is_the_cards(
    model: Classifier,
    card: ModelCard,
    test_images: tuple[tuple[str, ...], NDArray[np.uint8]],
) -> None:
    """Three points are two and a half standard errors."""
    labels, images = test_images
    rows = outputs(model, images).probabilities

    right = [card.labels[best] == label for best, label in zip(rows.argmax(1), labels, strict=True)]

    assert Counter(labels) == dict.fromkeys(card.labels, 100)
    assert np.mean(right) == pytest.approx(card.figures.accuracy, abs=0.03)


def test_its_curve_is_the_cards(
    model: Classifier,
    card: ModelCard,
    test_images: tuple[tuple[str, ...], NDArray[np.uint8]],
) -> None:
    """Each bin has two thirds of a hundred of these: four standard errors."""
    curve = card.figures.reliability
    assert len(curve) >= 10
    assert sum(each.images for each in curve) == card.figures.images
    assert min(each.images for each in curve) >= 50
    right = sum(each.images * each.right for each in curve) / card.figures.images
    assert right == pytest.approx(card.figures.accuracy)
    labels, images = test_images
    rows = outputs(model, images).probabilities
    confidence, is_right = rows.max(1), np.array(card.labels)[rows.argmax(1)] == np.array(labels)
    ends = [each.lowest for each in curve[1:]] + [2.0]
    for each, end in zip(curve, ends, strict=True):
        inside = (confidence >= each.lowest) & (confidence < end)
        error = (each.right * (1 - each.right) / inside.sum()) ** 0.5
        assert is_right[inside].mean() == pytest.approx(each.right, abs=4 * error + 0.02)


def test_its_examples_are_test_images_of_all_labels(
    model: Classifier, card: ModelCard, test_images: tuple[tuple[str, ...], NDArray[np.uint8]]
) -> None:
    assert tuple(example.label for example in card.examples) == card.labels
    for example in card.examples:
        file = base64.b64decode(example.image.partition(",")[2])
        pixels = decode_image(file, model.input_size, card.input.resize).pixels
        of_label = test_images[1][np.array(test_images[0]) == example.label].astype(float)
        nearest = np.abs(of_label - pixels).mean(axis=(1, 2, 3)).min()
        assert nearest < 5


def test_familiarity_costs_no_probability_a_bit(
    model: Classifier, test_images: tuple[tuple[str, ...], NDArray[np.uint8]]
) -> None:
    plain = without_familiarity(onnx.load(MODEL)).SerializeToString()
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    for images in (test_images[1][:50], test_images[1][:1]):
        (expected,) = session.run(None, {"image": images})
        np.testing.assert_array_equal(model.predict(images), expected)


def test_one_image_of_its_own_in_a_hundred_is_called_unfamiliar(
    model: Classifier,
    card: ModelCard,
    test_images: tuple[tuple[str, ...], NDArray[np.uint8]],
) -> None:
    found = outputs(model, test_images[1]).familiarity
    assert found is not None
    assert 0.005 <= np.mean(np.array(found) < 0.01) <= 0.02
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert card.familiarity is not None
    assert (card.familiarity.threshold, card.familiarity.held_back) == (0.01, 2000)
    assert 0.005 <= (card.familiarity.false_alarms or 0) <= 0.02


def test_strangers_are_told_from_its_own(card: ModelCard) -> None:
    assert card.familiarity is not None
    found = card.familiarity.strangers
    assert found.keys() == {"digits", "emoji", "hands", "noise", "stamps", "textures"}
    for name in ("noise", "textures"):
        assert found[name].auroc >= 0.98
    assert found["hands"].auroc >= 0.96
    assert found["hands"].passed <= 0.27
    assert all(one.auroc > 0.85 and one.passed < 0.6 for one in found.values())


def test_noise_is_unfamiliar(model: Classifier) -> None:
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (100, *model.input_size, 3)).astype(np.uint8)
    found = outputs(model, pixels).familiarity
    assert found is not None
    assert np.mean(np.array(found) < 0.01) > 0.9


# The card tells how the model was made, in the words of that day; what they are called now.
RENAMED = {"symmetric": "mirrored_filters", "skip_easy": "prune_easy", "balance": "class_weighting"}
# Options that were removed: they were at values that change nothing, or are the recipe's now.
WITHOUT_EFFECT = {
    "test_fraction": TEST_FRACTION,
    "data_name": "",
    "depth": 0,
    "activation": "relu",
    "whitening": whitening.NOISE,
    "teaching": distillation.WEIGHT,
    "softening": distillation.TEMPERATURE,
    "label_smoothing": 0.0,
    "average": 0.0,
    "start_scale": 1.0,
    "noise": 0.0,
    "mixup": 0.0,
    "model_version": "",
    "momentum": muon.MOMENTUM,
}


def test_the_command_on_the_card_still_makes_the_configuration_on_the_card(
    card: ModelCard,
) -> None:
    words = shlex.split(card.provenance.command)
    assert words[:3] == ["python", "-m", "training"]
    parser = argparse.ArgumentParser()
    add_options(parser)
    flags = {flag_of(old): flag_of(new) for old, new in RENAMED.items()}

    config = from_options(vars(parser.parse_args([flags.get(word, word) for word in words[3:]])))

    made_with = dict(card.provenance.config)
    assert made_with.items() >= WITHOUT_EFFECT.items()
    recipe = config.recipe
    assert made_with.pop("optimizer") == recipe.optimizer
    assert made_with.pop("schedule") == {"linear": "triangular"}[recipe.schedule]
    assert made_with.pop("warmup") == recipe.warmup
    assert made_with.pop("weight_decay") == recipe.weight_decay
    assert made_with.pop("alternate") == recipe.alternating_flip
    assert made_with.pop("dropout") == recipe.dropout
    kept = {RENAMED.get(k, k): v for k, v in made_with.items() if k not in WITHOUT_EFFECT}
    # Options that came after the model was made are at values that change nothing.
    assert kept.items() <= config.published().items()


def test_the_card_names_no_folder_of_the_machine_that_made_it(card: ModelCard) -> None:
    text = json.dumps([card.provenance.command, card.provenance.config])

    assert re.search(r"(^|[\s\"'=])(/|~|[A-Za-z]:)", text) is None, text
