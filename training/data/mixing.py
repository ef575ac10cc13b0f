"""Mixup: images that are partly another one, and targets that say so.

H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization (2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def mixed(
    images: Floats, targets: Floats, seed: NDArray[np.int32], strength: float
) -> tuple[Floats, Floats]:
    """Each image with a part of another of the batch over it, and the mean of both's targets.

    Args:
        images: float32 [N, H, W, 3].
        targets: float32 [N, labels], rows that sum to 1.
        seed: int32 [2]; the same seed mixes the same.
        strength: both parameters of the beta distribution that the parts are drawn from, above 0.

    Returns:
        Both, mixed. Of each image at least half is left, so its label stays the first.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.beta(strength, strength, len(images)).astype(np.float32)
    kept = np.maximum(drawn, 1 - drawn)[:, None]
    others = rng.permutation(len(images))
    return (
        _between(images, images[others], kept[:, :, None, None]),
        _between(targets, targets[others], kept),
    )


def _between(one: Floats, other: Floats, share: NDArray[np.floating]) -> Floats:
    return np.asarray(share * one + (1 - share) * other, np.float32)
