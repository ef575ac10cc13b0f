"""The page's parts on what happens inside: important pixels, activations, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from training.progress import bar
from training.report import activations, importance, page, pictures
from training.report.derivatives import NoRule
from training.report.network import Layer, Network
from training.report.page import percent
from training.report.pictures import Photograph

LEAST_FALL = 0.02  # a fall of the probability that gets the full colour, at least
SHOWN_MAPS = 32
EXCITED_LAYERS = 4
EXCITED_FILTERS = 8


@dataclass(frozen=True)
class Subject:
    """A picture to be explained: with what is to be said of it, and the labels to explain."""

    photo: Photograph
    caption: Markup
    labels: tuple[int, ...]


def important_pixels(
    classifier: Classifier, network: Network, subjects: Sequence[Subject]
) -> Markup:
    """For each picture and label: the picture, what covering it does, what the gradient says."""
    side = importance.covering_square(classifier.input_size)
    about = Markup(
        "Left the picture; in the middle, what happens to the label's probability when a square of "
        "{} of the model's pixels is covered with the picture's mean colour; right, what each "
        "pixel adds to the answer by its gradient (integrated from the mean colour to the picture; "
        "Sundararajan et al., 2017). <b>Orange speaks for the label, blue against it.</b>"
    ).format(page.times(side, side))
    parts = [page.paragraph(about)]
    work = [(subject, label) for subject in subjects for label in subject.labels]
    for subject, label in bar(work, desc="important pixels", unit="look"):
        parts.append(_trio(classifier, network, subject, label))
    return page.join(parts)


def _trio(classifier: Classifier, network: Network, subject: Subject, label: int) -> Markup:
    photo, named = subject.photo, page.name(classifier.card.labels[label])
    return page.join(
        [
            Markup("<h3>Why {}?</h3>").format(named),
            page.division(
                "trio",
                [
                    page.figure(page.picture(photo.shown, "the picture"), subject.caption),
                    _occlusion(classifier, photo, label),
                    _gradient(network, photo, label),
                ],
            ),
        ]
    )


def _occlusion(classifier: Classifier, photo: Photograph, label: int) -> Markup:
    fall = importance.occlusion(classifier, photo.pixels, label)
    before = float(classifier.predict(photo.pixels[None])[0, label])
    shot = pictures.heat(photo, fall, pictures.full_colour(fall, LEAST_FALL))
    caption = (
        f"Covering: {percent(before)} falls by up to {100 * max(fall.max(), 0):.0f} points, "
        f"rises by up to {100 * max(-fall.min(), 0):.0f}."
    )
    return page.figure(page.picture(shot, "what covering each part does"), caption)


def _gradient(network: Network, photo: Photograph, label: int) -> Markup:
    try:
        added = importance.integrated_gradients(network, photo.pixels, label)
    except NoRule as missing:
        return page.figure(Markup(), _no_rule(missing))
    # Neighbouring pixels cancel out to the eye; their sum is what the caption gives.
    radius = max(1, min(photo.pixels.shape[:2]) // 24)
    values = pictures.smoothed(added, radius)
    shot = pictures.heat(photo, values, pictures.full_colour(values))
    caption = (
        f"Gradient: {added[added > 0].sum():.1f} for it, {-added[added < 0].sum():.1f} against, "
        "in log-odds."
    )
    return page.figure(page.picture(shot, "what each pixel adds"), caption)


def _no_rule(missing: NoRule) -> Markup:
    return Markup(
        "No gradients: the file uses the operator {}, which this code cannot differentiate."
    ).format(str(missing))


def activation_maps(network: Network, photo: Photograph) -> Markup:
    """The way through the layers, and what each answers to this picture."""
    spatial = [layer for layer in network.layers if layer.is_spatial]
    chosen = activations.chosen_layers(network.layers, activations.SHOWN_LAYERS)
    parts = [
        page.paragraph(
            "The way from pixels to labels. Each filter of a layer slides over what the layer "
            "before it gave, and its answer is a map: bright where it found what it looks for."
        ),
        _way(network),
    ]
    if len(chosen) < len(spatial):
        parts.append(page.paragraph(f"{len(chosen)} of {len(spatial)} layers are shown.", "soft"))
    entry = page.figure(page.picture(photo.shown, "the picture"), "The picture", "card input")
    sheets = [_sheet(network, photo, layer) for layer in chosen]
    return page.join([*parts, page.division("charts wide", [entry, *sheets])])


def _sheet(network: Network, photo: Photograph, layer: Layer) -> Markup:
    maps = activations.feature_maps(network, photo.pixels, layer)
    count, height, width = maps.shape
    shown = maps[:SHOWN_MAPS]
    some = f"the first {len(shown)} of {count}" if len(shown) < count else f"{count}"
    caption = f"{layer.title}: {some} maps of {page.times(height, width)}, "
    caption += f"from {shown.min():.3g} to {shown.max():.3g}"
    drawn = page.picture(pictures.sheet_of_maps(shown), f"feature maps of {layer.title}")
    return page.figure(drawn, caption, "card")


def _way(network: Network) -> Markup:
    height, width = network.size
    rows = [("pixels", page.times(height, width, 3), "")]
    for layer in network.layers:
        shape = layer.shape if len(layer.shape) != 3 else (*layer.shape[1:], layer.shape[0])
        learned = f"{layer.learned:,}" if layer.learned else ""
        rows.append((layer.title, page.times(*shape), learned))
    body = page.join(
        Markup('<tr><td>{}</td><td class="number">{}</td><td class="number">{}</td></tr>').format(
            *row
        )
        for row in rows
    )
    table = Markup(
        '<div class="scroll"><table class="rows"><thead><tr><th>layer</th>'
        '<th class="number">values that come out</th><th class="number">learned numbers</th>'
        "</tr></thead><tbody>{}</tbody></table></div>"
    ).format(body)
    if len(rows) <= 16:
        return table
    return Markup("<details><summary>All {} layers</summary>{}</details>").format(
        len(rows) - 1, table
    )


def exciting_pictures(network: Network, photographs: NDArray[np.uint8]) -> Markup:
    """Pictures made by gradient ascent, for some filters of some layers."""
    convolutions = [layer for layer in network.layers if layer.weights]
    colour = photographs.reshape(-1, 3).mean(axis=0)
    chosen = activations.chosen_layers(convolutions, EXCITED_LAYERS)
    if not chosen:
        return page.paragraph("The network has no convolutions, so it has no maps to show.", "note")
    parts = [
        page.heading("Pictures that excite a filter most"),
        page.paragraph(
            "Made from faint noise by gradient ascent: step by step each pixel is moved so that "
            "the filter's activation grows. Below each, the mean activation that this picture "
            f"reaches, and in brackets that of {_photographs(len(photographs))}."
        ),
    ]
    try:
        for layer in bar(chosen, desc="exciting filters", unit="layer"):
            usual = activations.mean_activations(network, photographs, layer)
            filters = activations.liveliest(usual, EXCITED_FILTERS)
            parts += _excited(layer, activations.excite(network, layer, filters, usual, colour))
    except NoRule as missing:
        parts.append(page.paragraph(_no_rule(missing), "note"))
    return page.join(parts)


def _photographs(count: int) -> str:
    return "the photograph above" if count == 1 else f"{count} photographs"


def _excited(layer: Layer, made: Sequence[activations.Excitation]) -> list[Markup]:
    figures = (
        page.figure(
            page.picture(item.image, f"picture that excites filter {item.filter}"),
            f"#{item.filter}: {item.reached:.2f} ({item.usual:.2f})",
        )
        for item in made
    )
    return [
        page.paragraph(layer.title, "soft"),
        page.division("filters", figures),
    ]


def weights(network: Network) -> Markup:
    """The first layer's filters."""
    found = network.first_filters()
    if found is None:
        text = "The first layer does not look at three colours, so its filters are no pictures."
        return page.paragraph(text, "note")
    count, _, height, width = found.shape
    about = (
        f"The first layer's {count} filters of {page.times(height, width)} pixels and three "
        "colours, in the order of its maps above. Grey is 0; a filter answers most to what looks "
        "like itself. Edges, spots and pairs of colours were not drawn by anybody: training found "
        "them or, in a network that begins with whitening, the training images gave them."
    )
    drawn = page.picture(pictures.sheet_of_filters(found), "first-layer filters")
    return page.join([page.paragraph(about), page.figure(drawn, "", "card single")])
