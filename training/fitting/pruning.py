"""Data pruning: a long run spends its time on the images that it still gets wrong.

After Qin et al., InfoBatch (2023): of the images whose last loss was below the mean, an epoch
leaves a part out, another one each time. Those that are taken stand for those that are not, so the
expected direction of a step is that of all images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALL_IMAGES_FROM = 7 / 8  # of a run: nothing is left out any more


def easy_images(losses: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Which images an epoch may leave out, bool [N], where `share` (0 to 1) of the run is done.

    `losses`: each image's last one, [N]; all 0 before the first epoch, when none is easy.
    """
    if share >= ALL_IMAGES_FROM:
        return np.zeros(len(losses), bool)
    return np.asarray(losses < losses.mean())


def prune(
    order: NDArray[np.int64],
    weights: NDArray[np.float32],
    easy: NDArray[np.bool_],
    part: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """An epoch's order without some of the easy images, and what each image's loss counts then.

    Args:
        order: indices of all N images.
        weights: float32 [N], of the images' losses.
        easy: bool [N].
        part: of the easy ones, to be left out; below 1.
        rng: decides which.

    Returns:
        The shorter order, and weights [N] that are 1 on the average of what is taken.
    """
    if not easy.any():
        return order, weights
    is_left_out = easy & (rng.random(len(weights)) < part)
    taken = order[~is_left_out[order]]
    weights = np.where(easy, weights / np.float32(1 - part), weights)
    return taken, weights / weights[taken].mean()
