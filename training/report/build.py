"""Pages put together: a model file and images in, one HTML file out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import ModelCard
from training.data.pixels import spread
from training.export.answers import Answers, ask
from training.progress import say
from training.report import comparison, counting, looks, page, pictures, results
from training.report.looks import Subject
from training.report.network import Network
from training.report.page import percent

SUCCESSES, MISTAKES = 4, 2  # pictures whose pixels are looked at
SAMPLE = 24  # photographs that say what is usual
ANSWERS = 5

Sections = list[tuple[str, Markup]]  # titles, and what stands under them


@dataclass(frozen=True)
class Judged:
    """An opened model file, what its training wrote, and what it says to a folder."""

    path: Path
    classifier: Classifier
    network: Network
    log: results.Log | None
    answers: Answers


def report(models: Sequence[tuple[Path, results.Log | None]], data: Path, output: Path) -> None:
    """Write the page on a folder and one model or more, each with its training's log.

    Raises:
        DataError: the images cannot be used.
        ExportError: the page cannot be written.
        service.inference.errors.ModelError: the file is no usable model.
    """
    opened = [_opened(path) for path, _ in models]  # before any is asked, which takes a while
    judged = [
        Judged(path, classifier, network, log, ask(classifier, data))
        for (path, log), (classifier, network) in zip(models, opened, strict=True)
    ]
    footer = _footer([path for path, _ in models])
    if len(judged) == 1:
        card = judged[0].classifier.card
        text = page.page(card.name, page.about_model(card), _sections(judged[0]), footer)
    else:
        compared = comparison.section([(one.path, one.answers) for one in judged])
        sections = [("Compared", compared)]
        for number, one in enumerate(judged, start=1):
            sections += _numbered(number, one)
        text = page.page(f"{len(judged)} models", Markup("on the same images"), sections, footer)
    _write(output, text)


def _opened(model: Path) -> tuple[Classifier, Network]:
    return Classifier.load(model, threads=os.cpu_count() or 1), Network.load(model)


def _sections(one: Judged) -> Sections:
    card = one.classifier.card
    subjects = _subjects(card, one.answers)
    return [
        ("Results", results.section(card, one.answers, one.log)),
        ("Important pixels", looks.important_pixels(one.classifier, one.network, subjects)),
        *_inside(one.network, subjects[0].photo, _sample(card, one.answers)),
    ]


def _numbered(number: int, one: Judged) -> Sections:
    """One model's sections among others': numbered as in the comparison, and named."""
    card = one.classifier.card
    about = Markup("{} · {} · {}").format(
        page.name(one.path.name), page.name(card.name), page.about_model(card)
    )
    return [
        (f"{title} {number}", page.join([page.paragraph(about, "soft"), content]))
        for title, content in _sections(one)
    ]


def explain(model: Path, data: bytes, name: str, output: Path) -> None:
    """Write the page on a model and one image file, of this name and with these bytes.

    Raises:
        ExportError: the page cannot be written.
        service.inference.errors.InferenceError: the model or the image is not usable.
    """
    classifier, network = _opened(model)
    card = classifier.card
    photo = pictures.photograph(data, card)
    probabilities = classifier.predict(photo.pixels[None])[0]
    best = np.argsort(-probabilities, kind="stable")[:2]
    subject = Subject(photo, page.clamped(name), tuple(int(i) for i in best))
    sections = [
        ("Answer", _answer(card, photo, probabilities, name)),
        ("Important pixels", looks.important_pixels(classifier, network, [subject])),
        *_inside(network, photo, photo.pixels[None]),
    ]
    about = Markup("{} · {}").format(page.name(card.name), page.about_model(card))
    text = page.page(f"What the network sees in {name}", about, sections, _footer([model]))
    _write(output, text)


def _inside(network: Network, photo: pictures.Photograph, sample: NDArray[np.uint8]) -> Sections:
    maps = looks.activation_maps(network, photo)
    exciting = looks.exciting_pictures(network, sample)
    return [
        ("Activations", page.join([maps, exciting])),
        ("Weights", looks.weights(network)),
    ]


def _subjects(card: ModelCard, answers: Answers) -> list[Subject]:
    """Right answers that are typical, then the surest mistakes."""
    right = counting.typical_successes(answers, SUCCESSES)
    wrong = counting.confident_mistakes(answers, MISTAKES)
    found = []
    for index in [*right, *wrong]:
        said, shown = int(answers.said[index]), int(answers.targets[index])
        caption = Markup("{} {}{}").format(
            page.name(answers.labels[said]),
            percent(float(answers.probabilities[index, said])),
            "" if said == shown else Markup(", is {}").format(page.name(answers.labels[shown])),
        )
        photo = pictures.read(answers.paths[index], card)
        found.append(Subject(photo, caption, (said,)))
    return found


def _sample(card: ModelCard, answers: Answers) -> NDArray[np.uint8]:
    """Pictures from all over the folder, uint8 [N, H, W, 3]."""
    indices = spread(len(answers.paths), SAMPLE)
    return np.stack([pictures.read(answers.paths[i], card).pixels for i in indices])


def _answer(
    card: ModelCard,
    photo: pictures.Photograph,
    probabilities: NDArray[np.float32],
    name: str,
) -> Markup:
    height, width = photo.pixels.shape[:2]
    how = (
        "the whole picture, its ratio given up"
        if card.input.resize == "stretch"
        else "its centre, in the model's ratio"
    )
    pair = [
        page.figure(page.picture(photo.shown, name), page.clamped(name)),
        page.figure(
            page.picture(photo.pixels, "as the model sees it"),
            f"As the model sees it: {page.times(height, width)}, {how}",
        ),
    ]
    return page.join([page.division("trio pair", pair), _ranking(card.labels, probabilities)])


def _ranking(labels: Sequence[str], probabilities: NDArray[np.float32]) -> Markup:
    order = np.argsort(-probabilities, kind="stable")[:ANSWERS]
    rows = page.join(
        Markup('<tr><th class="name">{}</th><td class="number">{}{}</td></tr>').format(
            page.clamped(labels[i]),
            percent(float(probabilities[i])),
            page.bar(float(probabilities[i])),
        )
        for i in order
    )
    return Markup('<div class="scroll"><table class="rows"><tbody>{}</tbody></table></div>').format(
        rows
    )


def _footer(models: Sequence[Path]) -> Markup:
    return Markup(
        "Made by labelserve from {} alone, with the code that serves it. "
        "This page holds everything that it shows."
    ).format(Markup(", ").join(page.name(path.name) for path in models))


def _write(output: Path, text: str) -> None:
    page.write(output, text)
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser")
