"""Presets against the formulas of those who named them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.adoption.networks import (
    NAMES,
    Network,
    adopt,
    agree,
    asked,
    imagenet,
    pictures,
    softmax,
)
from training.adoption.normalisation import PIXELS, PRESETS, UNIT, from_figures


def first(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.transpose(0, 3, 1, 2).astype(np.float32)


def clip(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    return first((images / 255 - mean) / np.array([0.26862954, 0.26130258, 0.27577711]))


FORMULAS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
    "imagenet": imagenet,
    "tf": lambda images: first(images / 127.5 - 1),
    "unit": lambda images: first(images / 255),
    "caffe": lambda images: first(images[..., ::-1] - np.array([103.939, 116.779, 123.68])),
    "clip": clip,
    "pixels": first,
}


def test_every_preset_is_shown_here() -> None:
    assert FORMULAS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", FORMULAS)
def test_presets(tmp_path: Path, name: str) -> None:
    large = name in ("caffe", "pixels")  # numbers of 0 to 255
    model = Network(sharpness=0.02 if large else 1.0).save(tmp_path)
    seen = FORMULAS[name](pictures())
    classifier = adopt(model, *NAMES, "--preprocess", name)
    assert name in classifier.card.provenance.config["pixels"]
    agree(classifier, pictures(), softmax(asked(model, seen)))


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("0.5 0.4 0.3", "0.1 0.2 0.3", ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))),
        ("127.5 102 76.5", "25.5 51 76.5", ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))),
        ("0.5", "0.25", ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))),
    ],
)
def test_figures(tmp_path: Path, mean: str, std: str, expected: Any) -> None:
    model = Network().save(tmp_path)
    seen = first((pictures() / 255 - np.array(expected[0])) / np.array(expected[1]))
    words = ("--mean", *mean.split(), "--std", *std.split())
    agree(adopt(model, *NAMES, *words), pictures(), softmax(asked(model, seen)))


@pytest.mark.parametrize("figures", [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
def test_known_figures_are_called_by_their_name(figures: Any) -> None:
    assert from_figures(*figures) is PRESETS["imagenet"]
    assert from_figures([0], [1]) is UNIT
    assert from_figures([0, 0, 0], [1 / 255] * 3) is PIXELS


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([0.1, 0.2], [1], "one number or three"),
        ([0.1], [0], "above 0"),
        ([float("nan")], [1], "finite"),
    ],
)
def test_figures_that_cannot_be(mean: Any, std: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_figures(mean, std)
