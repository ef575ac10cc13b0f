"""The page's parts on what happens inside: activations, what excites filters, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from training.progress import bar
from training.report import images, rendering
from training.report.images import Photograph
from training.report.layers import Layer, Network

SHOWN_LAYERS = 8
SHOWN_MAPS = 32
EXCITED_LAYERS = 4
EXCITED_FILTERS = 8
PATCHES = 4  # parts of photographs that are shown for a filter
LONG_WAY = 16  # layers; the table of more is folded


@dataclass(frozen=True)
class Responses:
    """What each filter of a layer answers to photographs; all [N, filters].

    `mean`: over the map. `peak`: its largest value. `place`: where that is in the flattened map.
    """

    mean: NDArray[np.float64]
    peak: NDArray[np.float64]
    place: NDArray[np.int64]


def chosen_layers(layers: Sequence[Layer], most: int) -> tuple[Layer, ...]:
    """The layers that answer with maps, or `most` of them evenly from the first to the last."""
    spatial = [layer for layer in layers if layer.is_spatial]
    if len(spatial) <= most:
        return tuple(spatial)
    return tuple(spatial[round(i)] for i in np.linspace(0, len(spatial) - 1, most))


def activations_section(
    network: Network, photo: Photograph, sample: NDArray[np.uint8], sample_name: str
) -> Markup:
    """The way through the layers, their maps of one image, and what excites their filters.

    Args:
        network: the network.
        photo: the image whose maps are shown.
        sample: the photographs that filters are compared on, uint8 [N, H, W, 3].
        sample_name: what the page calls them.
    """
    spatial = [layer for layer in network.layers if layer.is_spatial]
    chosen = chosen_layers(network.layers, SHOWN_LAYERS)
    return rendering.render(
        "activations.html",
        photo=photo,
        rows=_way(network),
        long_way=LONG_WAY,
        spatial=len(spatial),
        sheets=_sheets(network, photo, chosen),
        excited=_excited(network, sample),
        sample=sample_name,
    )


def weights_section(network: Network) -> Markup:
    """The first layer's filters."""
    filters = network.first_filters()
    sheet = None if filters is None else images.sheet_of_filters(filters)
    shape = () if filters is None else filters.shape
    return rendering.render("weights.html", shape=shape, sheet=sheet)


def _way(network: Network) -> list[tuple[str, str, int | None]]:
    """Each layer's name, the shape of its answer and how many numbers it has learned."""
    rows: list[tuple[str, str, int | None]] = [
        ("pixels", rendering.times((*network.size, 3)), None)
    ]
    for layer in network.layers:
        shape = layer.shape if len(layer.shape) != 3 else (*layer.shape[1:], layer.shape[0])
        rows.append((layer.title, rendering.times(shape), layer.learned or None))
    return rows


def _sheets(network: Network, photo: Photograph, layers: Sequence[Layer]) -> list[dict[str, Any]]:
    values = network.values(photo.pixels[None], [layer.answer for layer in layers])
    sheets = []
    for layer in layers:
        maps = values[layer.answer][0]
        shown = maps[:SHOWN_MAPS]
        sheets.append(
            {
                "layer": layer,
                "image": images.sheet_of_maps(shown),
                "shown": len(shown),
                "count": len(maps),
                "size": maps.shape[1:],
                "low": float(shown.min()),
                "high": float(shown.max()),
            }
        )
    return sheets


def _excited(network: Network, sample: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """For some layers: filters, each with the parts of the sample that excite it most."""
    convolutions = [
        layer
        for layer in network.layers
        if layer.title.startswith("convolution")
        # Of a single image, a filter that sees all of it tells nothing.
        and (len(sample) > 1 or layer.seen < min(network.size))
    ]
    layers = chosen_layers(convolutions, EXCITED_LAYERS)
    if not layers:
        return []
    return [
        {"layer": layer, "filters": _filters(layer, found, sample)}
        for layer, found in zip(layers, responses(network, layers, sample), strict=True)
    ]


def _filters(layer: Layer, found: Responses, sample: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "image": images.sheet_of_patches(strongest_patches(layer, number, found, sample)),
            "peak": float(found.peak[:, number].max()),
            "mean": float(found.mean[:, number].mean()),
        }
        for number in liveliest(found.mean, EXCITED_FILTERS)
    ]


def responses(
    network: Network, layers: Sequence[Layer], sample: NDArray[np.uint8]
) -> list[Responses]:
    """What the filters of each layer answer to photographs, uint8 [N, H, W, 3]."""
    names = [layer.answer for layer in layers]
    found: list[list[Any]] = [[] for _ in layers]
    for image in bar(sample, desc="exciting filters", unit="image"):
        values = network.values(image[None], names)
        for name, rows in zip(names, found, strict=True):
            maps = values[name][0].reshape(values[name].shape[1], -1)
            rows.append((maps.mean(axis=1), maps.max(axis=1), maps.argmax(axis=1)))
    return [Responses(*(np.array(column) for column in zip(*rows, strict=True))) for rows in found]


def liveliest(means: NDArray[np.floating], count: int) -> list[int]:
    """The filters that tell photographs apart most, or answer most to a single one.

    Args:
        means: the photographs' mean activations, [N, filters].
        count: how many filters, at most.
    """
    order = np.argsort(-(means.std(axis=0) if len(means) > 1 else means[0]), kind="stable")
    return sorted(order[:count].tolist())


def strongest_patches(
    layer: Layer, number: int, found: Responses, sample: NDArray[np.uint8]
) -> list[NDArray[np.uint8]]:
    """The parts of PATCHES photographs to which a filter answers most, the strongest first.

    A part is as large as the filter can see, the whole photograph at most. Its place is exact where
    layers pad both sides alike, else right to some pixels.
    """
    best = np.argsort(-found.peak[:, number], kind="stable")[:PATCHES]
    patches = []
    for i in best:
        cell = divmod(int(found.place[i, number]), layer.shape[2])
        rows, columns = (
            _seen(layer, place, cells, length)
            for place, cells, length in zip(cell, layer.shape[1:], sample.shape[1:3], strict=True)
        )
        patches.append(sample[i, rows, columns])
    return patches


def _seen(layer: Layer, place: int, cells: int, length: int) -> slice:
    """The pixels of a row of this length that one of a map's cells sees."""
    side = min(layer.seen, length)
    middle = length / 2 + (place - (cells - 1) / 2) * layer.step
    start = min(max(round(middle - side / 2), 0), length - side)
    return slice(start, start + side)
