"""Importance of pixels, on a model whose answer hangs on one known part of the image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.inference.classifier import Classifier
from service.inference.explanation import (
    PASSES,
    covered,
    enlarge,
    importance,
    log_odds,
    random_masks,
)
from tests.images import random_pixels
from tests.tiny_model import make_card, write_model

SIZE = (32, 24)
REGION = (slice(4, 12), slice(14, 22))  # the only pixels that the model looks at


def region_model() -> onnx.ModelProto:
    """Two labels: the second's log-odds are 0.04 times the region's mean red, less 4."""
    weights = np.zeros((*SIZE, 3, 2), np.float32)
    weights[(*REGION, 0, 1)] = 0.04 / 64
    constants = {"weights": weights.reshape(-1, 2), "bias": np.array([0, -4], np.float32)}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    shape: list[Any] = ["N", *SIZE, 3]
    graph = helper.make_graph(
        nodes,
        "region",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    path = tmp_path_factory.mktemp("model") / "region.onnx"
    return Classifier.load(write_model(path, make_card(("no", "yes"), SIZE), region_model()))


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """Dark noise, and the region bright red."""
    pixels = random_pixels(*SIZE, 3) // 3
    pixels[(*REGION, 0)] = 220
    return pixels


def in_region(values: NDArray[Any]) -> NDArray[np.bool_]:
    inside = np.zeros(values.shape, bool)
    inside[REGION] = True
    return inside


def test_the_pixels_that_the_model_looks_at_are_the_most_important(
    classifier: Classifier, image: NDArray[np.uint8]
) -> None:
    found = importance(classifier.predict, image, 1)

    assert found.shape == SIZE
    assert found.dtype == np.float32
    inside = in_region(found)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert inside[row, column]
    best = np.argsort(-found, axis=None)[: inside.sum()]
    assert inside.ravel()[best].mean() > 0.7
    assert found[inside].mean() > 8 * np.abs(found[~inside]).mean()


def test_what_speaks_for_one_of_two_labels_speaks_against_the_other(
    classifier: Classifier, image: NDArray[np.uint8]
) -> None:
    found = [importance(classifier.predict, image, label) for label in (0, 1)]

    np.testing.assert_allclose(found[0], -found[1], atol=1e-5)


def test_pixels_of_the_mean_colour_change_nothing(classifier: Classifier) -> None:
    flat = np.full((*SIZE, 3), 90, np.uint8)

    assert np.abs(importance(classifier.predict, flat, 1)).max() < 1e-12


def test_a_seed_gives_one_map(classifier: Classifier, image: NDArray[np.uint8]) -> None:
    first, again, other = (
        importance(classifier.predict, image, 1, passes=40, seed=seed) for seed in (1, 1, 2)
    )

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("passes", "asked"), [(2, 2), (33, 32), (PASSES, PASSES)])
def test_no_more_passes_than_allowed(
    classifier: Classifier, image: NDArray[np.uint8], passes: int, asked: int
) -> None:
    batches = []

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches.append(len(images))
        return classifier.predict(images)

    importance(predict, image, 1, passes=passes)

    assert sum(batches) == asked
    assert max(batches) <= 16


def areas(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    image: NDArray[np.uint8],
    values: NDArray[Any],
) -> tuple[float, float]:
    """Mean probability of label 1 while pixels are blackened, and while they are put into black."""
    order = np.argsort(-values, axis=None)
    deleted, inserted = image.copy(), np.zeros_like(image)
    curves: list[list[float]] = [[], []]
    for some in np.array_split(order, 48):
        place = np.unravel_index(some, values.shape)
        deleted[place], inserted[place] = 0, image[place]
        for curve, pixels in zip(curves, (deleted, inserted), strict=True):
            curve.append(float(predict(pixels[None])[0, 1]))
    return float(np.mean(curves[0])), float(np.mean(curves[1]))


def test_deletion_and_insertion_are_better_than_by_chance(
    classifier: Classifier, image: NDArray[np.uint8]
) -> None:
    found = importance(classifier.predict, image, 1)
    chance = np.random.default_rng(0).random(SIZE)

    deletion, insertion = areas(classifier.predict, image, found)
    deletion_by_chance, insertion_by_chance = areas(classifier.predict, image, chance)

    assert deletion < deletion_by_chance / 2
    assert insertion > 1.5 * insertion_by_chance


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        (SIZE, np.uint8, "image is uint8"),
        ((*SIZE, 4), np.uint8, "image is uint8"),
        ((0, 24, 3), np.uint8, "image is uint8"),
        ((*SIZE, 3), np.float32, "image is float32"),
        ((16, 16, 3), np.uint8, "images are"),  # the classifier's own words
    ],
)
def test_wrong_images_are_refused(
    classifier: Classifier, shape: tuple[int, ...], kind: type, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        importance(classifier.predict, np.zeros(shape, kind), 1, passes=8)


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_that_does_not_exist_is_refused(
    classifier: Classifier, image: NDArray[np.uint8], label: int
) -> None:
    with pytest.raises(ValueError, match=f"label {label} does not exist"):
        importance(classifier.predict, image, label, passes=8)


def test_one_pass_is_too_few(classifier: Classifier, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="1 passes are too few"):
        importance(classifier.predict, image, 1, passes=1)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (120, 97)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    """A model that is given the mean of the left half's red."""

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        share = images[:, :, : max(1, size[1] // 2), 0].mean(axis=(1, 2)) / 255
        return np.stack([1 - share, share], axis=1).astype(np.float32)

    image = random_pixels(*size, 3)
    image[:, : max(1, size[1] // 2), 0] |= 128

    found = importance(predict, image, 1)

    assert found.shape == size
    assert np.isfinite(found).all()
    if size != (1, 1):
        assert found[:, : size[1] // 2].mean() > found[:, size[1] // 2 :].mean()


def test_masks_come_in_pairs_of_opposites() -> None:
    masks = random_masks(np.random.default_rng(0), 41, (20, 30))

    assert masks.shape == (40, 20, 30)
    np.testing.assert_array_equal(masks[:20] + masks[20:], np.ones((20, 20, 30)))
    assert masks.min() == 0
    assert masks.max() == 1
    assert masks.std(axis=0).min() > 0.2  # no pixel is shown or covered in all of them


def test_a_mask_shows_the_image_or_its_mean_colour() -> None:
    image = random_pixels(6, 4, 3)
    masks = np.stack([np.ones((6, 4)), np.zeros((6, 4)), np.full((6, 4), 0.5)]).astype(np.float32)

    whole, nothing, half = covered(image, masks)

    np.testing.assert_array_equal(whole, image)
    mean = image.mean(axis=(0, 1))
    np.testing.assert_allclose(nothing, np.broadcast_to(mean, image.shape), atol=0.51)
    np.testing.assert_allclose(half, (image + mean) / 2, atol=0.51)


def test_log_odds_are_finite_and_rise() -> None:
    p = np.array([0, 0.25, 0.5, 0.75, 1, 1, 1], np.float32)
    others = np.array([1, 0.75, 0.5, 0.25, 1e-9, 1e-12, 0], np.float32)

    found = log_odds(np.stack([p, others], axis=1), 0)

    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()  # between answers that are all 1 in float32, too
    assert found[2] == pytest.approx(0)
    assert found[3] == pytest.approx(np.log(3), abs=1e-5)


def test_log_odds_of_a_label_that_stands_alone() -> None:
    p = np.array([0, 0.25, 0.5, 0.75, 1], np.float32)

    found = log_odds(np.stack([p, np.full(5, 0.9, np.float32)], axis=1), 0, "sigmoid")

    assert found[1:4] == pytest.approx([-np.log(3), 0, np.log(3)], abs=1e-5)
    assert found[0] < -15
    assert 15 < found[4] < 18  # as sure as a float32 can be, and no surer


def test_labels_that_stand_alone_are_explained_alone() -> None:
    """The first label's pixels say nothing of the second's, however sure both are."""

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        reds = images[:, [4, 20], [4, 20], 0] / np.float32(16)
        return np.asarray(1 / (1 + np.exp(-reds)), np.float32)

    image = np.full((24, 24, 3), 60, np.uint8)
    image[2:7, 2:7] = image[18:23, 18:23] = 230

    first, second = (importance(predict, image, i, activation="sigmoid") for i in (0, 1))

    assert first[4, 4] > 5 * abs(first[20, 20])
    assert second[20, 20] > 5 * abs(second[4, 4])


def test_enlarging_interpolates_between_centres() -> None:
    values = np.array([[0.0, 4.0]])

    np.testing.assert_allclose(enlarge(values, (2, 4)), [[0, 1, 3, 4]] * 2)
