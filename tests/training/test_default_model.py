"""The model in the repository, that a fresh clone serves."""

import argparse
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from service.inference.classifier import Classifier
from service.inference.contract import ModelCard
from service.inference.imaging import decode_image
from tests.cifar10 import cifar_test_jpegs
from training.config import TEST_FRACTION, flag_of, from_options
from training.data.cifar10 import LABELS
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
    assert json.loads(MODEL.with_suffix(".json").read_bytes()) == json.loads(card.to_json())


def test_it_is_small_and_good_enough(card: ModelCard) -> None:
    assert MODEL.stat().st_size < 8_000_000
    assert card.labels == LABELS
    assert card.figures.split == "test"
    assert card.figures.images == 10_000
    assert (card.figures.accuracy or 0) >= 0.915
    assert 0 < (card.figures.calibration_error or 0) <= 0.01
    assert 0 < (card.figures.parity or 0) <= 0.2  # in 8-bit integers
    assert "JPEG edition" in card.training_data.name


def test_its_accuracy_is_the_cards(model: Classifier, card: ModelCard) -> None:
    """On a tenth of the test images; three points are two and a half standard errors."""
    labels, files = zip(*cifar_test_jpegs(1000), strict=True)
    size, rule = model.input_size, card.input.resize
    images = np.stack([decode_image(file, size, rule).pixels for file in files])
    rows = np.concatenate([model.predict(images[i : i + 100]) for i in range(0, len(images), 100)])

    right = [card.labels[best] == label for best, label in zip(rows.argmax(1), labels, strict=True)]

    assert Counter(labels) == dict.fromkeys(card.labels, 100)
    assert np.mean(right) == pytest.approx(card.figures.accuracy, abs=0.03)


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
