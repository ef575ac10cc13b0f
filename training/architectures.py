"""Named networks and their recipes, as values: what a configuration may ask for.

Nothing here needs Keras; `training.networks` builds what is described. The staged networks share
one recipe, after K. Jordan, 94% on CIFAR-10 in 3.29 Seconds (2024): Muon for the filters, images
mirrored in every second epoch; but labels are not smoothed, so that probabilities mean what they
say. docs/experiments.md has what was measured on the way to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

KERAS = "keras"  # the architecture that `--backbone` means


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained, apart from what the options say.

    `warmup`: part of the run over which the learning rate rises from 0. `schedule`: how it falls to
    0 afterwards. `weight_decay`: decoupled, of weights that are neither biases nor Muon's.
    `alternating_flip`: whether an image is mirrored in every second epoch, instead of by chance.
    `dropout`: part of the last layer's inputs that a step drops. `depth_decay`: the rate of a block
    of a pretrained network, as a multiple of that of the block behind it. `learned_blocks`: how
    many of its blocks learn, the last layer included; those nearer to the image stay. `mixup`: how
    far images are mixed with others (see `data.mixing`); 0 for not at all.
    """

    optimizer: Literal["adamw", "muon", "relative"]
    schedule: Literal["cosine", "linear"]
    warmup: float = 0.0
    weight_decay: float = 0.0
    alternating_flip: bool = False
    dropout: float = 0.0
    depth_decay: float = 1.0
    learned_blocks: int = 0
    mixup: float = 0.0


@dataclass(frozen=True)
class Architecture:
    """A network that can be asked for by name.

    `smallest_side`: the least that leaves one value after all pools, where the first layer looks at
    single pixels. `widths`: filters of the stages. `depth`: convolutions in a stage. `is_staged`:
    whether it has a whitening first layer, stages of 3x3 convolutions with batch norms, and a
    maximum before its last layer; only then it can have branches and mirrored filters.
    `is_pretrained`: whether it begins with weights that were learned from other images. `options`:
    defaults that differ from the options' own.
    """

    name: str
    summary: str
    smallest_side: int
    widths: tuple[int, ...]
    depth: int
    is_staged: bool
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    is_pretrained: bool = False

    def smallest_for(self, size: tuple[int, int]) -> int:
        """The smallest side, in pixels, of a network that is built for images of this size."""
        if not self.is_staged:
            return self.smallest_side
        _, stride = patch(size)
        halved = (self.smallest_side - 1) * (2 if is_large(size) else 1)
        return stride * (halved + 1)

    def __str__(self) -> str:
        return f"{self.name}: {self.summary}"


def patch(size: tuple[int, int]) -> tuple[int, int]:
    """(side, stride) of the patches that a whitening first layer looks at.

    2x2 for thumbnails; for larger images patches overlap by half, so that what follows has 30 to
    60 places in each direction, whatever the size.
    """
    stride = 1 if max(size) < 48 else 2 if max(size) < 112 else 4
    return 2 * stride, stride


def is_large(size: tuple[int, int]) -> bool:
    """Whether a staged network for this size (height, width) gets one more stage."""
    _, stride = patch(size)
    return min(size) // stride >= 40


_BASIC_RECIPE = Recipe("adamw", "cosine", warmup=0.1, weight_decay=0.05, dropout=0.5)
# Small steps, smaller ones towards the image: what is there is better than what few images teach.
_PRETRAINED_RECIPE = Recipe(
    "relative",
    "cosine",
    warmup=0.1,
    dropout=0.2,
    depth_decay=0.9,
    learned_blocks=15,  # of 19: edges and colours are the same everywhere, and a third of the work
    mixup=0.4,
)
_PRETRAINED_OPTIONS = {
    "image_size": (128, 128),
    "batch_size": 32,
    "learning_rate": 0.01,
    "bias_rate": 0.05,
    "epochs": 10,
}
_STAGED_RECIPE = Recipe("muon", "linear", alternating_flip=True)
_STAGED_OPTIONS = {"batch_size": 512, "learning_rate": 0.1, "bias_rate": 0.1, "shift": 2}


def _staged(
    name: str, summary: str, widths: tuple[int, ...], depth: int, epochs: int
) -> Architecture:
    # 9 is the least that leaves one value: 9, 8 (whitening), 4, 2, 1.
    options = {**_STAGED_OPTIONS, "epochs": epochs}
    return Architecture(name, summary, 9, widths, depth, True, _STAGED_RECIPE, options)


ARCHITECTURES: dict[str, Architecture] = {
    item.name: item
    for item in (
        # 16 is the least that leaves one value: 16, 14, 12, 6, 4, 2, 1.
        Architecture(
            "basic", "the tutorial's two-stage network", 16, (32, 64), 2, False, _BASIC_RECIPE
        ),
        _staged(
            "small", "whitening and three stages of two convolutions", (32, 96, 128), 2, epochs=10
        ),
        _staged(
            "fast",
            "the same, wider: after the CIFAR-10 speed record",
            (64, 256, 256),
            2,
            epochs=18,
        ),
        Architecture(
            "efficientnet-lite0",
            "starts from weights learned on ImageNet",
            16,
            (),
            0,
            False,
            _PRETRAINED_RECIPE,
            _PRETRAINED_OPTIONS,
            is_pretrained=True,
        ),
        _staged(
            "deep", "three convolutions in a stage, with residuals", (64, 192, 256), 3, epochs=18
        ),
        # 32 is the least of all of them; some need more, see `networks.backbone`.
        Architecture(
            KERAS,
            "the network of --backbone",
            32,
            (),
            0,
            False,
            _PRETRAINED_RECIPE,
            _PRETRAINED_OPTIONS,
            is_pretrained=True,
        ),
    )
}
