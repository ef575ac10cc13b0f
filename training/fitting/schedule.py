"""How far a run is, and what follows from that: the learning rate and the images' size."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.config import TrainConfig

GROWN = 0.7  # part of the run after which images have their whole size
SIZE_STEP = 4  # pixels that a growing image grows by


@dataclass(frozen=True)
class Pace:
    """How far a run is, 0 to 1: by its steps or by the clock, whichever is further."""

    steps: int
    seconds: float  # infinite where there is no budget
    started: float  # on the monotonic clock

    def share(self, step: float) -> float:
        """The part that is done before this step; 1 ends the run.

        Where an epoch takes fewer steps than others, each of them counts for more than one.
        """
        return min(1.0, max(step / self.steps, (time.monotonic() - self.started) / self.seconds))


def rate_factor(config: TrainConfig, share: float) -> float:
    """The learning rate as a part of its peak, where `share` (0 to 1) of the run is done.

    From 0 in a straight line to 1 over the warm-up; then along half a cosine or a straight line to
    0 at the end, or constant.
    """
    if share < config.warmup:
        return share / config.warmup
    falling = (share - config.warmup) / (1 - config.warmup)
    if config.schedule == "constant":
        return 1.0
    return 1 - falling if config.schedule == "triangular" else (1 + math.cos(math.pi * falling)) / 2


def size_at(config: TrainConfig, share: float) -> tuple[int, int]:
    """The size that images are trained in where `share` of the run is done; it grows in a line."""
    scale = config.start_scale + (1 - config.start_scale) * min(1.0, share / GROWN)
    if scale >= 1:
        return config.image_size
    height, width = (max(1, int(n * scale / SIZE_STEP)) * SIZE_STEP for n in config.image_size)
    return min(height, config.image_size[0]), min(width, config.image_size[1])
