"""Arrays → images: photographs, parts of photographs, many small maps as one sheet."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.contract import ModelCard, centre_share
from service.inference.imaging import decode_image, open_image
from training.data.decoding import LIMITS

TILE = 64  # pixels of a small map's longer side on a sheet
COLUMNS = 8
BRIGHTENING = 0.6  # so that maps are seen beside one that outshines them
SHOWN_SIDE = 320  # the most pixels of a photograph's longer side on a page
FLATTEST = 4.0  # photographs of a wilder ratio are shown in the model's

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photograph:
    """An image as the model takes it, and as a person wants to see the same part of it.

    `pixels`: uint8 [H, W, 3] of the model's size. `shown`: uint8 [h, w, 3], upright, in its own
    ratio where the model is given the whole image, in the model's where it takes the centre.
    """

    pixels: Pixels
    shown: Pixels


def photograph(data: bytes, card: ModelCard) -> Photograph:
    """Decode a file of any format that the project reads.

    Raises:
        service.inference.errors.ImageError: it cannot be decoded.
    """
    size, resize = (card.input.height, card.input.width), card.input.resize
    pixels = decode_image(data, size, resize, LIMITS).pixels
    source = open_image(data, LIMITS).upright_size()
    is_whole = centre_share(resize) is None
    ratio = source if is_whole and max(source) <= FLATTEST * min(source) else size
    # As large as the file or the model has it, whichever is more, within SHOWN_SIDE.
    longest = min(SHOWN_SIDE, max(*source, *size))
    shown_size = (
        max(1, round(ratio[0] * longest / max(ratio))),
        max(1, round(ratio[1] * longest / max(ratio))),
    )
    return Photograph(pixels, decode_image(data, shown_size, resize, LIMITS).pixels)


def png(pixels: Pixels) -> bytes:
    """uint8 [H, W, 3] or, with opacity, [H, W, 4] as a PNG file; same pixels, same bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    """A PNG file as an address that holds all of it."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def kept(photo: Photograph, mask: NDArray[np.bool_]) -> Pixels:
    """The photograph where a mask of the model's size is set, elsewhere its mean colour."""
    height, width = photo.shown.shape[:2]
    fitted = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    mean = photo.shown.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    return np.where(np.asarray(fitted)[..., None], photo.shown, mean)


def sheet_of_maps(maps: NDArray[np.floating]) -> Pixels:
    """Maps, [C, H, W], as one image of COLUMNS columns: dark is the least, bright the most.

    All maps have the same scale, so that a filter that finds nothing stays dark.
    """
    low, high = np.quantile(maps, [0.005, 0.995])
    shares = ((maps - low) / max(float(high - low), 1e-12)).clip(0, 1) ** BRIGHTENING
    return _sheet(
        list((mpl.colormaps["magma"](shares)[..., :3] * 255).round().astype(np.uint8)), gap=6
    )


def sheet_of_filters(weights: NDArray[np.floating]) -> Pixels:
    """Filters over colours, [filters, 3, h, w], as one image: grey is 0.

    Each has a scale of its own: what it looks for is in its pattern, not in its size.
    """
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    shares = weights / np.maximum(largest, 1e-12)
    tiles = np.rint(127.5 + 127.5 * shares).astype(np.uint8).transpose(0, 2, 3, 1)
    return _sheet(list(tiles), gap=18)


def sheet_of_patches(patches: list[Pixels]) -> Pixels:
    """Parts of photographs, all [h, w, 3], as one image of two columns."""
    return _sheet(patches, gap=4, most_columns=2)


def _sheet(tiles: list[Pixels], gap: int, most_columns: int = COLUMNS) -> Pixels:
    """Tiles of one size, [h, w, 3], brought to about TILE pixels; what lies between is clear."""
    tiles = [_to_tile_size(tile) for tile in tiles]
    height, width = tiles[0].shape[:2]
    columns = min(most_columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), 0, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width, :3] = tile
        canvas[top : top + height, left : left + width, 3] = 255
    return canvas


def _to_tile_size(tile: Pixels) -> Pixels:
    """Small tiles enlarged by a whole number, their pixels kept square; large ones reduced."""
    longest = max(tile.shape[:2])
    if longest <= TILE:
        return tile.repeat(TILE // longest, axis=0).repeat(TILE // longest, axis=1)
    size = tuple(max(1, round(n * TILE / longest)) for n in tile.shape[1::-1])
    return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))


def read(path: Path, card: ModelCard) -> Photograph:
    """The photograph in a file. Raises OSError or ImageError."""
    return photograph(path.read_bytes(), card)
