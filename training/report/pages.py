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
from service.inference.contract import ModelCard, centre_share
from training.data.pixels import spread
from training.export.answers import Answers, ask
from training.export.seen import NOTHING, seen_by
from training.progress import say
from training.report import activations, counting, images, importance, rendering, results
from training.report.importance import Subject
from training.report.layers import Network

SUCCESSES, MISTAKES = 4, 2  # images whose important pixels are shown
SAMPLE = 100  # photographs that filters are compared on
ANSWERS = 5

Sections = list[tuple[str, Markup]]  # titles, and what stands under them


@dataclass(frozen=True)
class Judged:
    """An opened model file, what its training logged, and its answers to a folder."""

    path: Path
    classifier: Classifier
    network: Network
    log: results.Log | None
    answers: Answers


def report(models: Sequence[tuple[Path, results.Log | None]], data: Path, output: Path) -> None:
    """Write the page on a folder and one model or more, each with its training's log.

    Images that one of them was trained on are left out, unless there are no others.

    Raises:
        DataError: the images cannot be used.
        ExportError: the page cannot be written.
        service.inference.errors.ModelError: the file is no usable model.
    """
    opened = [_opened(path) for path, _ in models]  # before any is asked, which takes a while
    seen = NOTHING
    for (path, _), (classifier, _) in zip(models, opened, strict=True):
        seen |= seen_by(path, classifier.card, data)
    judged = [
        Judged(path, classifier, network, log, ask(classifier, data, seen=seen))
        for (path, log), (classifier, network) in zip(models, opened, strict=True)
    ]
    files = [path.name for path, _ in models]
    if len(judged) == 1:
        card = judged[0].classifier.card
        _write(output, card.name, _about(card), _sections(judged[0]), files)
    else:
        compared = results.comparison_section([(one.path, one.answers) for one in judged])
        sections = [("Compared", compared)]
        for number, one in enumerate(judged, start=1):
            sections += _numbered(number, one)
        _write(output, f"{len(judged)} models", "on the same images", sections, files)


def explain(model: Path, data: bytes, name: str, output: Path) -> None:
    """Write the page on a model and one image file, of this name and with these bytes.

    Raises:
        ExportError: the page cannot be written.
        service.inference.errors.InferenceError: the model or the image is not usable.
    """
    classifier, network = _opened(model)
    card = classifier.card
    photo = images.photograph(data, card)
    probabilities = classifier.predict(photo.pixels[None])[0]
    best = np.argsort(-probabilities, kind="stable")
    ranking = [(card.labels[i], float(probabilities[i])) for i in best[:ANSWERS]]
    share = centre_share(card.input.resize)
    answer = rendering.render("answer.html", photo=photo, file=name, share=share, ranking=ranking)
    subjects = [Subject(photo, int(label), file=name) for label in best[:2]]
    sections = [
        ("Answer", answer),
        ("Important pixels", importance.section(classifier, subjects)),
        *_inside(network, photo, photo.pixels[None], "the image"),
    ]
    heading = f"What the network sees in {name}"
    _write(output, heading, _about(card, card.name), sections, [model.name])


def _opened(model: Path) -> tuple[Classifier, Network]:
    return Classifier.load(model, threads=os.cpu_count() or 1), Network.load(model)


def _sections(one: Judged) -> Sections:
    card, sample = one.classifier.card, _sample(one.classifier.card, one.answers)
    subjects = _subjects(card, one.answers)
    return [
        ("Results", results.section(card, one.answers, one.log)),
        ("Important pixels", importance.section(one.classifier, subjects)),
        *_inside(one.network, subjects[0].photo, sample, f"{len(sample)} images"),
    ]


def _numbered(number: int, one: Judged) -> Sections:
    """One model's sections among others': numbered as in the comparison, and named."""
    card = one.classifier.card
    about = _about(card, one.path.name, card.name)
    return [
        (f"{title} {number}", rendering.render("numbered.html", about=about, content=content))
        for title, content in _sections(one)
    ]


def _inside(
    network: Network, photo: images.Photograph, sample: NDArray[np.uint8], sample_name: str
) -> Sections:
    return [
        ("Activations", activations.activations_section(network, photo, sample, sample_name)),
        ("Weights", activations.weights_section(network)),
    ]


def _subjects(card: ModelCard, answers: Answers) -> list[Subject]:
    """Right answers that are typical, then the surest mistakes."""
    right = counting.typical_successes(answers, SUCCESSES)
    wrong = counting.confident_mistakes(answers, MISTAKES)
    return [
        Subject(
            images.read(answers.paths[index], card),
            int(answers.said[index]),
            truth=answers.labels[answers.targets[index]] if index in wrong else "",
        )
        for index in [*right, *wrong]
    ]


def _sample(card: ModelCard, answers: Answers) -> NDArray[np.uint8]:
    """Images from all over the folder, uint8 [N, H, W, 3]."""
    indices = spread(len(answers.paths), SAMPLE)
    return np.stack([images.read(answers.paths[i], card).pixels for i in indices])


def _about(card: ModelCard, *names: str) -> Markup:
    """One line on a model, behind names."""
    return rendering.render("about.html", card=card, names=names)


def _write(
    output: Path, heading: str, about: str, sections: Sections, files: Sequence[str]
) -> None:
    page = rendering.render(
        "page.html", heading=heading, about=about, sections=sections, files=files
    )
    rendering.write(output, page)
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser")
