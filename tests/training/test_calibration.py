from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.contract import ReliabilityBin
from training.calibration import (
    COLDEST,
    HOTTEST,
    calibration_error,
    equal_mass,
    fit_temperature,
    reliability,
)


def sampled(images: int, labels: int = 5) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits, and targets drawn from exactly their softmax: they are calibrated at T = 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (images, labels))
    # Gumbel's trick: the argmax of logits plus this noise is a draw from their softmax.
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


@pytest.mark.parametrize("true", [0.2, 0.5, 1.0, 3.0])
def test_the_temperature_that_scaled_the_logits_is_found(true: float) -> None:
    logits, targets = sampled(20_000)

    assert fit_temperature(logits * true, targets) == pytest.approx(true, rel=0.03)


def test_an_offset_common_to_all_labels_changes_nothing() -> None:
    logits, targets = sampled(1_000)

    assert fit_temperature(logits + 1e3, targets) == pytest.approx(fit_temperature(logits, targets))


def test_a_handful_of_right_answers_does_not_make_certainty() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 2

    assert 0.5 < fit_temperature(logits, np.array([0, 1, 2, 0])) < 1.0


def test_the_temperature_is_bounded() -> None:
    logits = np.eye(2)[[0, 1] * 50_000]

    assert fit_temperature(logits * 0.01, np.array([0, 1] * 50_000)) == pytest.approx(COLDEST)
    assert fit_temperature(logits * 1e3, np.array([1, 0] * 50_000)) == pytest.approx(HOTTEST)


def test_the_fitted_temperature_calibrates() -> None:
    logits, targets = sampled(20_000)
    temperature = fit_temperature(logits * 4, targets)

    assert calibration_error(softmax(logits * 4), targets) > 0.1
    assert calibration_error(softmax(logits * 4 / temperature), targets) < 0.01


def test_error_of_known_numbers() -> None:
    # Two bins of two: top probabilities 0.6, 0.7 with one right; 0.8, 0.9 with both right.
    top = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities = np.stack([top, 1 - top], axis=1)
    targets = np.array([0, 0, 0, 1])

    expected = (abs(0.5 - 0.65) * 2 + abs(1.0 - 0.85) * 2) / 4
    assert calibration_error(probabilities, targets, bins=2) == pytest.approx(expected)


def test_over_and_under_confidence_in_different_bins_do_not_cancel() -> None:
    top = np.array([0.6, 0.6, 1.0, 1.0])
    probabilities = np.stack([top, 1 - top], axis=1)

    # Accuracy 1.0 at 0.6, accuracy 0.6 would be needed at 1.0: here it is 0.5.
    targets = np.array([0, 0, 0, 1])
    assert calibration_error(probabilities, targets, bins=2) == pytest.approx((0.4 + 0.5) / 2)
    assert calibration_error(probabilities, targets, bins=1) == pytest.approx(0.05)


def test_fewer_images_than_bins() -> None:
    assert calibration_error(np.array([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.3)


Curve = tuple[ReliabilityBin, ...]


def require_these(bins: Curve, confidence: NDArray[Any], is_right: NDArray[np.bool_]) -> None:
    """All images are in the bins, and each bin says what is so of its own."""
    assert sum(each.images for each in bins) == len(confidence)
    ends = [each.lowest for each in bins[1:]] + [2.0]
    for each, end in zip(bins, ends, strict=True):
        inside = (confidence >= each.lowest) & (confidence < end)
        assert inside.sum() == each.images
        assert each.mean == pytest.approx(confidence[inside].mean())
        assert each.right == pytest.approx(is_right[inside].mean())


def test_bins_of_equal_mass() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.permutation(np.linspace(0.3, 0.9, 1000))
    is_right = rng.uniform(size=1000) < confidence

    bins = equal_mass(confidence, is_right)

    assert len(bins) == 15
    assert {each.images for each in bins} == {66, 67}
    require_these(bins, confidence, is_right)
    assert [each.images for each in equal_mass(confidence[:2], is_right[:2])] == [1, 1]


def test_answers_that_are_hardly_sure_are_told_apart_by_tenths() -> None:
    """One in fifteen of them would be a bin from 25 to 60 %, as of the default model."""
    rng = np.random.default_rng(0)
    unsure, sure = rng.uniform(0.25, 0.6, 700), rng.uniform(0.99, 1, 9300)
    confidence = rng.permutation(np.concatenate([unsure, sure]))
    is_right = rng.uniform(size=10_000) < confidence

    bins = reliability(confidence, is_right)

    first = [each.lowest for each in bins[:4]]
    assert first == pytest.approx([0.25, 0.3, 0.4, 0.5], abs=0.01)
    assert 14 <= len(bins) <= 25
    require_these(bins, confidence, is_right)


def test_a_bin_of_few_images_is_joined_with_its_neighbour() -> None:
    confidence = np.linspace(0.3, 0.9, 170)
    is_right = confidence > 0.5
    bins = reliability(confidence, is_right)
    assert len(bins) in (2, 3)
    assert min(each.images for each in bins) >= 50
    require_these(bins, confidence, is_right)
    assert len(reliability(confidence[:50], is_right[:50])) == 1
    assert reliability(confidence[:49], is_right[:49]) == ()


@pytest.mark.parametrize("curve", [equal_mass, reliability])
def test_equally_sure_answers_are_in_one_bin(curve: Callable[..., Curve]) -> None:
    """Whatever order they come in: half of them are right, and no part of them is better."""
    confidence = np.repeat([0.6, 1.0], [100, 900])
    is_right = np.arange(1000) % 2 == 0
    for order in (np.arange(1000), np.argsort(is_right, kind="stable")):
        bins = curve(confidence[order], is_right[order])
        assert [(each.lowest, each.right, each.images) for each in bins] == [
            (0.6, 0.5, 100),
            (1.0, 0.5, 900),
        ]
