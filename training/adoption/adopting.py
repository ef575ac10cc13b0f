"""A model from elsewhere → a file that the service opens: decided, built, compared, measured."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import (
    NOTHING_MEASURED,
    InputSpec,
    ModelCard,
    Provenance,
    TrainingData,
)
from service.inference.errors import ModelError
from training.adoption import plan as plans
from training.adoption import served_graph, sources
from training.adoption.folder import Folder
from training.adoption.plan import Plan
from training.adoption.served_graph import Adapter
from training.adoption.sources import Source
from training.atomic_files import drafted, require_writable
from training.calibration import fit_temperature, logits_of, softmax
from training.config import publishable
from training.data.dataset import Split
from training.errors import AdoptionError, ConfigError
from training.export import cards, examples
from training.export.answers import Answers, ask
from training.export.evaluation import (
    accuracy_text,
    examples_text,
    familiarity_text,
    figures,
)
from training.export.familiarity import tried
from training.export.retrofit import halves, sample
from training.progress import say

PARITY_LIMIT = 1e-4
HALF_PARITY_LIMIT = 5e-3  # where weights are float16, of 11 binary digits
UNKNOWN = "unknown"


def adopt(options: argparse.Namespace, words: list[str]) -> ModelCard:
    """Write `options.output`, a model file made of `options.source`; its card.

    Args:
        options: of `python -m training adopt`.
        words: that were given to it, for the card.

    Raises:
        TrainingError: what has to be told, or why the model cannot be served.
    """
    output: Path = options.output
    if output.exists() and Path(options.source).exists() and output.samefile(options.source):
        raise ConfigError(f"--output: {output} is the model itself, which stays as it is")
    if options.examples and options.data is None:
        raise ConfigError("--examples: they are images of --data, which is not given")
    require_writable(output)
    folder = None if options.data is None else Folder(options.data)
    source = sources.opened(options.source, options.size)
    model = served_graph.raised(source.model)
    plan = plans.made(source, options, model, folder)
    _say_plan(source, plan)
    form, parity = _working(model, plan, source.name)
    card = _card(source, plan, options, words)
    with drafted(output) as draft:
        card = _written(form, card, parity, draft)
        if folder is not None:
            if options.examples:
                some = examples.of_listing(folder.listing, card.input)
                card = msgspec.structs.replace(card, examples=some)
            card = _measured(form, card, draft, folder)
    _announce(card, output)
    return card


def _say_plan(source: Source, plan: Plan) -> None:
    say(source.about)
    for name, line in plan.lines().items():
        say(f"  {name:<8} {line}")
    if plan.repeated:
        say(f"  labels that are there twice got numbers: {', '.join(plan.repeated)}")


@dataclass(frozen=True)
class Form:
    """The foreign graph in a form that may work, and what goes around it."""

    model: onnx.ModelProto
    adapter: Adapter


def _working(model: onnx.ModelProto, plan: Plan, where: str) -> tuple[Form, float]:
    """The first form that answers several images as the foreign network does, and how exactly.

    Raises AdoptionError where none does.
    """
    images = plans.drawn_images(plan.size.value, 3)
    rows = plan.expected(images)[plan.head.name]
    adapter = Adapter(plan.image, plan.head, plan.pixels.value, plan.size.value)
    free = served_graph.with_free_batch(model, plan.image, plan.size.value)
    forms = [Form(each, adapter) for each in free]
    if plan.image.batch in (None, 1):
        forms.append(Form(model, replace(adapter, one_by_one=True)))
    limit = _limit(model)
    reasons = []
    for form in forms:
        try:
            parity = _difference(form, images, rows)
            # Of sure answers all are the same, and a mix-up of images is not seen.
            soft = _difference(form, images, rows, served_graph.soft_temperature(rows, plan.head))
        except AdoptionError as error:
            reasons.append(str(error))
            continue
        if max(parity, soft) <= limit:
            if form.adapter.one_by_one:
                say("  batch    one image after another, as the graph does not take several")
            return form, parity
        reasons.append(f"its answers differ by {max(parity, soft):.1e}")
    if plan.image.batch not in (None, 1):
        raise AdoptionError(
            f"{where} takes {plan.image.batch} images at a time, and no other number works: export "
            "it with a free batch, or with a batch of 1"
        )
    raise AdoptionError(f"{where} does not answer as it did once it is put together: {reasons[-1]}")


def _difference(
    form: Form,
    images: NDArray[np.uint8],
    rows: NDArray[np.float32],
    temperature: float = 1.0,
) -> float:
    """Of the form's probabilities from those of the foreign numbers. Raises AdoptionError."""
    expected = served_graph.expected(rows, form.adapter.head, temperature)
    found = served_graph.ask(form.adapter.around(form.model, temperature), images)
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else 1.0


def _limit(model: onnx.ModelProto) -> float:
    """The largest difference that rounding makes."""
    is_half = any(each.data_type == onnx.TensorProto.FLOAT16 for each in model.graph.initializer)
    return HALF_PARITY_LIMIT if is_half else PARITY_LIMIT


def _card(source: Source, plan: Plan, options: argparse.Namespace, words: list[str]) -> ModelCard:
    """The card but for its version and figures."""
    height, width = plan.size.value
    return ModelCard(
        schema=2,
        name=options.name or source.name,
        version=UNKNOWN,
        labels=plan.labels.value,
        input=InputSpec(height, width, plan.resize.value),
        activation=plan.head.activation,
        temperature=1.0,
        training_data=TrainingData(
            source.learned_on, options.licence or source.hints.licence or UNKNOWN, {}
        ),
        figures=NOTHING_MEASURED,
        provenance=Provenance(
            created=cards.now().isoformat(),
            command=shlex.join(["python", "-m", "training", "adopt", *_without_paths(words)]),
            config=plan.lines(),
            libraries=cards.libraries(),
            adopted_from=source.about,
        ),
    )


def _without_paths(words: list[str]) -> list[str]:
    """The command as a card may show it: see `publishable`."""
    shown = []
    for word in words:
        flag, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        shown.append(flag + sign + str(publishable(Path(value)) if os.sep in value else value))
    return shown


def _written(
    form: Form,
    card: ModelCard,
    parity: float,
    path: Path,
    images: tuple[Split, Split] | None = None,
) -> ModelCard:
    """The card as it is written, with the graph, to `path`, once the service would open it.

    `images`: what familiarity is made of (see `familiarity.tried`).
    """
    graph = form.adapter.around(form.model, card.temperature)
    told = None
    if images is not None:
        known, held_back = images
        graph, told = tried(graph, known, held_back.images)
    card = msgspec.structs.replace(
        card,
        familiarity=told,
        version=cards.version_of(graph, cards.now()),
        figures=msgspec.structs.replace(card.figures, parity=parity),
    )
    cards.save(graph, card, path)
    try:
        Classifier.load(path)
    except ModelError as error:
        raise AdoptionError(f"the service would not open the file: {error}") from error
    return card


def _measured(form: Form, card: ModelCard, path: Path, folder: Folder) -> ModelCard:
    """The card with figures on the folder's images, and a temperature that suits them.

    The temperature is that of all images. The calibration error is measured on each half of them
    at the temperature of the other. Familiarity compares with one half, and the other is held back.
    """
    parity = card.figures.parity or 0.0
    found = ask(Classifier.load(path), folder.path)
    probabilities, temperature = found.probabilities, 1.0
    if card.activation == "softmax":
        probabilities, temperature = _calibrated(found)
    split = "test" if found.is_test else "all"
    told = figures(probabilities, found.targets, card.labels, split=split, parity=parity)
    card = msgspec.structs.replace(card, temperature=temperature, figures=told)
    with sample(*halves(folder.listing), form.adapter.size, card.input.resize) as images:
        return _written(form, card, parity, path, images)


def _calibrated(found: Answers) -> tuple[NDArray[np.float32], float]:
    """Probabilities at the other half's temperature, [N, labels], and that of all images."""
    logits = logits_of(found.probabilities).astype(np.float64)
    halves = np.arange(len(logits)) % 2 == 0
    calibrated = np.empty_like(logits)
    for half in (halves, ~halves):
        other = half if half.all() else ~half
        temperature = fit_temperature(logits[other], found.targets[other])
        calibrated[half] = softmax(logits[half] / temperature)
    return calibrated.astype(np.float32), fit_temperature(logits, found.targets)


def _announce(card: ModelCard, path: Path) -> None:
    found = card.figures
    measured = f"  {accuracy_text(found)}"
    if found.calibration_error is None:
        measured += ": --data FOLDER measures, and calibrates"
    else:
        measured += (
            f"\n  calibration error {found.calibration_error:.4f}, "
            f"temperature {card.temperature:.3f}"
        )
    say(
        f"{path}: {card.name} {card.version}, {path.stat().st_size / 1e6:.1f} MB, largest "
        f"difference from the original {found.parity:.1e}\n{measured}\n"
        f"{familiarity_text(card)}{examples_text(card)}"
        f"serve it:                LABELSERVE_MODEL={shlex.quote(str(path))} python -m service"
    )
