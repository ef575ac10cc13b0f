"""What networks want of pixels, under the names that the field knows it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_OF_SHARES = 2.0  # means and deviations beyond it are of pixels in 0..255, not in 0..1
GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Normalisation:
    """(pixel - mean) / deviation, by channels.

    `name`: as `--preprocess` has it, or `mean/std`. `mean`, `deviation`: of pixels in 0..255, for
    the channels in the network's order. `is_bgr`: whether that is blue, green, red.
    """

    name: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    is_bgr: bool = False

    @property
    def changes(self) -> bool:
        """Whether values are changed, and not only their order."""
        return any(self.mean) or any(value != 1 for value in self.deviation)

    def for_channels(self, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and deviation, float32 [channels] each; one channel, a grey one, has their means."""
        both = np.array([self.mean, self.deviation], np.float32)
        if channels == 1:
            both = both.mean(axis=1, keepdims=True)
        return both[0], both[1]

    def apply(self, images: NDArray[np.uint8], channels: int) -> NDArray[np.float32]:
        """What the network sees of images uint8 [N, H, W, 3]: float32 [N, H, W, channels]."""
        mean, deviation = self.for_channels(channels)
        values = images.astype(np.float32)
        if channels == 1:
            values = values @ np.array(GREY, np.float32)[:, None]
        elif self.is_bgr:
            values = values[..., ::-1]
        result: NDArray[np.float32] = (values - mean) / deviation
        return result

    def __str__(self) -> str:
        order = ", channels blue, green, red" if self.is_bgr else ""
        mean, deviation = (", ".join(f"{x:g}" for x in v) for v in (self.mean, self.deviation))
        return f"{self.name} (less {mean}; divided by {deviation}; of 0 to 255{order})"


def _of_shares(
    name: str, mean: tuple[float, float, float], deviation: tuple[float, float, float]
) -> Normalisation:
    """Of means and deviations of pixels in 0..1, as PyTorch's tools have them."""
    (a, b, c), (d, e, f) = mean, deviation
    return Normalisation(name, (255 * a, 255 * b, 255 * c), (255 * d, 255 * e, 255 * f))


PIXELS = Normalisation("pixels", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
UNIT = Normalisation("unit", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
TF = Normalisation("tf", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
# The figures of torchvision, of keras.applications.imagenet_utils and of OpenAI's CLIP.
PRESETS = {
    item.name: item
    for item in (
        _of_shares("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        TF,
        UNIT,
        Normalisation("caffe", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), is_bgr=True),
        _of_shares(
            "clip", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        ),
        PIXELS,
    )
}


def from_figures(mean: Sequence[float], deviation: Sequence[float]) -> Normalisation:
    """Of one or three means and deviations; of pixels in 0..1 where none is above 2.

    Raises ValueError for another number of them, or a deviation that is not above 0.
    """
    if {len(mean), len(deviation)} - {1, 3}:
        raise ValueError("one number or three are needed, for red, green and blue")
    if not np.isfinite([*mean, *deviation]).all():
        raise ValueError("a number is not finite")
    if not all(value > 0 for value in deviation):
        raise ValueError("a deviation is above 0")
    a, b, c = mean if len(mean) == 3 else [*mean] * 3
    d, e, f = deviation if len(deviation) == 3 else [*deviation] * 3
    name = "mean/std"
    if max(map(abs, (*mean, *deviation))) <= LARGEST_OF_SHARES:
        found = _of_shares(name, (a, b, c), (d, e, f))
    else:
        found = Normalisation(name, (a, b, c), (d, e, f))
    named = (preset for preset in PRESETS.values() if _same(preset, found))
    return next(named, found)


def _same(one: Normalisation, other: Normalisation) -> bool:
    a, b = ([*each.mean, *each.deviation] for each in (one, other))
    return one.is_bgr == other.is_bgr and np.allclose(a, b, atol=0.05)
