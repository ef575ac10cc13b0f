"""A map of importance laid over its image, in colours."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOR, AGAINST = (217, 72, 15), (28, 100, 242)  # orange and blue: safe for the colour-blind
# The longer side of a picture is enlarged by whole numbers until it has as many pixels as this.
SHOWN_SIDE = 320

Pixels = NDArray[np.uint8]


def overlay(pixels: Pixels, values: NDArray[np.floating]) -> bytes:
    """An image and its map as a PNG; a small image is enlarged to some hundred pixels.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        values: [H, W], as of ``explanation.importance``.
    """
    height, width = pixels.shape[:2]
    times = math.ceil(SHOWN_SIDE / max(height, width))
    shown = Image.fromarray(pixels).resize(
        (width * times, height * times), Image.Resampling.BICUBIC
    )
    content = io.BytesIO()
    Image.fromarray(heat(np.asarray(shown), values)).save(content, "PNG")
    return content.getvalue()


def heat(shown: Pixels, values: NDArray[np.floating]) -> Pixels:
    """A photograph in grey with what speaks for (orange) and against (blue) laid over it.

    The largest values but for 1 % of pixels have the full colour.

    Args:
        shown: the image, uint8 [h, w, 3], of any size.
        values: [H, W] of the model's size, above 0 for and below 0 against.
    """
    height, width = shown.shape[:2]
    largest = max(float(np.quantile(np.abs(values), 0.99)), 1e-12)
    map_ = Image.fromarray((values / largest).clip(-1, 1).astype(np.float32))
    strength = np.asarray(map_.resize((width, height), Image.Resampling.BILINEAR))[..., None]
    grey = np.asarray(Image.fromarray(shown).convert("L"), np.float32)[..., None]
    colour = np.where(strength > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    opacity = 0.85 * np.abs(strength) ** 0.8
    return np.asarray(np.rint(_lighter(grey) * (1 - opacity) + colour * opacity), np.uint8)


def _lighter(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less contrast, so that the colours lie on top in dark and light places alike."""
    return 70 + grey * (150 / 255)
