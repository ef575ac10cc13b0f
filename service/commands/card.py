"""A model's card, for people."""

import sys
from pathlib import Path

import msgspec

from service.inference.classifier import Classifier
from service.inference.errors import ModelError

_NO_MODEL = 2


def print_card(model: Path) -> int:
    """Write a model's card, without images, to standard output.

    The exit status: 0, or 2 if the model cannot be used.
    """
    try:
        classifier = Classifier.load(model)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return _NO_MODEL
    card = msgspec.json.format(classifier.card.without_images().to_json(), indent=2)
    sys.stdout.write(card + "\n")
    return 0
