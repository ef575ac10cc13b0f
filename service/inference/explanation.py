"""Which pixels an answer depends on, measured by passes through the model alone.

Random soft masks show parts of the image and cover the rest with its mean colour, as in RISE
(Petsiuk, Das, Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, 2018).
RISE averages the masks, each weighted by its answer, which takes thousands of passes. Here a ridge
regression explains the answers by the masks, as in LIME (Ribeiro, Singh, Guestrin, 2016): 200
passes are enough. docs/experiments.md compares it with RISE, occlusion and gradients.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import Activation

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

PASSES = 200
METHOD = "mask-regression"  # what clients call it
BATCH = 16  # images that the model is given at once
BATCH_PIXELS = 2**19  # that they have together: each takes some 60 bytes meanwhile
CELLS = 7  # of a mask, along each side of the image
LATTICE = 32  # places along a side at which masks are compared: enough for 7 cells
REACH = 0.08  # of the side: the distance at which pixels still matter alike
RIDGE = 0.3  # share of a mask's own size that is added to the diagonal
SMALLEST = 1e-4  # scale of a ridge, where the masks hardly differ
TINIEST = 1e-30  # keeps the log-odds of a certain answer finite
NEAREST = float(np.finfo(np.float32).epsneg)  # what a float32 below 1 lacks to 1, at least


def importance(  # noqa: PLR0913 - all but three by keyword
    predict: Predict,
    image: NDArray[np.uint8],
    label: int,
    *,
    activation: Activation = "softmax",
    passes: int = PASSES,
    seed: int = 0,
) -> NDArray[np.float32]:
    """How much each pixel adds to the log-odds of a label when it is shown instead of covered.

    The same arguments give the same map. Masks come in pairs, a mask and its opposite.

    Args:
        predict: probabilities, float32 [N, labels], of uint8 [N, H, W, 3]: `Classifier.predict`.
        image: uint8 [H, W, 3], of the size that `predict` takes.
        label: index of the label to explain.
        activation: as on the card.
        passes: how many images `predict` may be asked, at least 2; an odd one is not used.
        seed: of the masks.

    Returns:
        float32 [H, W], finite; above 0 where the pixel speaks for the label, below where it speaks
        against it. The map is comparable within one image: the ridge makes all of it smaller.

    Raises:
        ValueError: the image is not uint8 [H, W, 3], there is no such label, or passes is below 2.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}, uint8 [H, W, 3] expected")
    if passes < 2:
        raise ValueError(f"{passes} passes are too few: masks come in pairs")
    size = image.shape[:2]
    lattice = (min(LATTICE, size[0]), min(LATTICE, size[1]))
    masks = random_masks(np.random.default_rng(seed), passes, lattice)
    answers = log_odds(_answers(predict, image, label, masks), label, activation)
    return enlarge(_regression(masks, answers), size)


def random_masks(
    rng: np.random.Generator, count: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Soft masks in pairs of opposites, float32 [2 x (count // 2), height, width] in 0..1.

    Each is a grid of random zeros and ones, interpolated, and shifted by a part of a cell.
    """
    half = count // 2
    grids = rng.integers(0, 2, (half, CELLS + 2, CELLS + 2)).astype(np.float32)
    shifts = rng.random((half, 2, 1))
    rows, columns = (
        _interpolation(np.linspace(0, CELLS, length) + shifts[:, axis], CELLS + 2)
        for axis, length in enumerate(size)
    )
    masks = rows @ grids @ columns.transpose(0, 2, 1)
    return np.concatenate([masks, 1 - masks])


def covered(image: NDArray[np.uint8], masks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image where a mask, [N, H, W], is 1 and its mean colour where it is 0; [N, H, W, 3]."""
    mean = image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    # Long rows: numpy takes three times as long where only the three channels are one.
    masks = masks.reshape(len(masks), -1).repeat(3, axis=1)
    mixed = masks * (image - mean).ravel() + np.tile(mean, image.size // 3)
    shown: NDArray[np.uint8] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return shown.reshape(len(masks), *image.shape)


def log_odds(
    probabilities: NDArray[np.floating], label: int, activation: Activation = "softmax"
) -> NDArray[np.float64]:
    """log(p / (1 - p)) of a label, [N], from the probabilities of all, [N, labels]; always finite.

    A softmax's 1 - p is added up from the other labels': a float32 cannot tell answers above
    0.9999999 apart, but it can tell what little is left to the others. A sigmoid's label stands
    alone, so its answers above that are taken for alike.
    """
    mine = np.asarray(probabilities[:, label], np.float64)
    if activation == "sigmoid":
        others = np.maximum(1 - mine, NEAREST)
    else:
        others = np.delete(probabilities, label, axis=1).sum(axis=1, dtype=np.float64)
    found: NDArray[np.float64] = np.log(mine + TINIEST) - np.log(others + TINIEST)
    return found


def enlarge(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps, [..., h, w], brought to a size by bilinear interpolation between centres of pixels."""
    rows, columns = (
        _interpolation(((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1), old)
        for new, old in zip(size, values.shape[-2:], strict=True)
    )
    return np.asarray(rows @ values.astype(np.float32) @ columns.T, np.float32)


def _interpolation(places: NDArray[np.float64], points: int) -> NDArray[np.float32]:
    """Weights, [..., places, points], of points at 0, 1, 2, … for values at places between them."""
    distances = np.abs(places[..., None] - np.arange(points))
    return np.asarray(np.maximum(0, 1 - distances), np.float32)


def _answers(
    predict: Predict,
    image: NDArray[np.uint8],
    label: int,
    masks: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The probabilities for the image under each mask, [N, labels]."""
    answers = []
    height, width = image.shape[:2]
    batch = max(1, min(BATCH, BATCH_PIXELS // (height * width)))
    for first in range(0, len(masks), batch):
        some = enlarge(masks[first : first + batch], (height, width))
        probabilities = predict(covered(image, some))
        if not 0 <= label < probabilities.shape[1]:
            raise ValueError(f"label {label} does not exist: there are {probabilities.shape[1]}")
        answers.append(probabilities)
    return np.concatenate(answers)


def _regression(masks: NDArray[np.float32], answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map, [h, w], whose products with the masks of `random_masks` give the answers best.

    A Gaussian process: ridge regression that expects neighbours to be alike. There are fewer masks
    than pixels, so the equations are solved in the masks' space. A mask less its mean, 0.5, is its
    opposite with the sign changed: a pair is one equation, for the half of what its answers differ.
    """
    pairs = len(masks) // 2
    centred = masks[:pairs] - 0.5
    rows, columns = (_likeness(length) for length in masks.shape[1:])
    smooth = rows @ centred @ columns
    products = np.tensordot(smooth, centred, axes=((1, 2), (1, 2)))
    ridge = RIDGE * max(float(np.trace(products)) / pairs, SMALLEST)
    differences = (answers[:pairs] - answers[pairs:]) / 2
    shares = np.linalg.solve(2 * products + ridge * np.eye(pairs), differences)
    return np.asarray(2 * np.tensordot(shares, smooth, axes=1))


def _likeness(length: int) -> NDArray[np.float64]:
    """How alike pixels of a row are expected to be, [length, length]: a Gaussian of REACH."""
    places = np.arange(length) / length
    return np.asarray(np.exp(-0.5 * ((places[:, None] - places) / REACH) ** 2))
