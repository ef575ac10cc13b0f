"""The learning rate over a run."""

from __future__ import annotations

import math

from training.architectures import Recipe


def rate_factor(recipe: Recipe, share: float) -> float:
    """The learning rate as a part of its peak, where `share` (0 to 1) of the run is done.

    From 0 in a straight line to 1 over the warm-up; then along half a cosine or a straight line to
    0 at the end.
    """
    if share < recipe.warmup:
        return share / recipe.warmup
    falling = (share - recipe.warmup) / (1 - recipe.warmup)
    return 1 - falling if recipe.schedule == "linear" else (1 + math.cos(math.pi * falling)) / 2
