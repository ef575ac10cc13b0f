"""What older files lack, for a model that is trained already: familiarity, a curve, examples."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import ModelCard, ResizeRule, StrangerFigures
from service.inference.model_files import model_file, read_model
from training.atomic_files import drafted, require_writable
from training.calibration import reliability
from training.data.dataset import Split
from training.data.decoding import ReadFile, decoded
from training.data.entries import PassedOver, files_below, is_image
from training.data.folders import Listing, list_images, parts
from training.data.pixels import PixelFile, PixelWriter, spread
from training.errors import DataError, ExportError
from training.export import cards, examples
from training.export.answers import Answers, ask
from training.export.evaluation import examples_text, familiarity_text, outputs, unfamiliar_share
from training.export.familiarity import MOST_HELD_BACK, bank_of, with_familiarity
from training.export.seen import seen_by, splits_of
from training.intervals import rank_area
from training.progress import say

# Strangers are judged where so many images of the labels are let pass.
PASSING = 0.95


def add_familiarity(options: argparse.Namespace) -> ModelCard:
    """Write `options.output`, the model file `options.model` with familiarity; its card.

    What the file answers stays as it is, to the bit.

    Raises:
        TrainingError: it cannot be made of these images, or the file cannot be written.
        service.inference.errors.ModelError: the file is no usable model.
    """
    file = model_file(options.model)
    output: Path = options.output or file
    require_writable(output)
    old = Classifier.load(file)
    known, held_back, test = _images_for(old.card, options.data)
    model = onnx.ModelProto.FromString(read_model(file))
    with (
        sample(known, held_back, old.input_size, old.card.input.resize) as (bank, others),
        drafted(output) as draft,
    ):
        before, (model, told) = model, with_familiarity(model, bank, others.images)
        told = msgspec.structs.replace(told, strangers=_still_true(old.card, before, model))
        card = msgspec.structs.replace(
            old.card, schema=2, familiarity=told, version=cards.version_of(model, cards.now())
        )
        cards.save(model, card, draft)
        new = Classifier.load(draft)
        _require_same(file, *(outputs(each, others.images).probabilities for each in (old, new)))
        card = _with_examples(_measured(new, card, file, options), test, options)
        cards.save(model, card, draft)
        Classifier.load(draft)
    lines = f"{familiarity_text(card)}{examples_text(card)}"
    say(f"{output}: {card.name} {card.version}\n{lines}".rstrip())
    return card


def _require_same(file: Path, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """Raise ExportError where probabilities have changed."""
    if not np.array_equal(before, after):
        raise ExportError(
            f"{file}: with familiarity its probabilities would differ by up to"
            f" {np.abs(after - before).max():.1e}, and its card's figures were measured without:"
            " train, or adopt, it again"
        )


def _still_true(
    card: ModelCard, before: onnx.ModelProto, after: onnx.ModelProto
) -> dict[str, StrangerFigures]:
    """What the card says of strangers, where the graph has stayed the same."""
    now = cards.now()
    is_same = cards.version_of(before, now) == cards.version_of(after, now)
    return card.familiarity.strangers if card.familiarity and is_same else {}


def _images_for(card: ModelCard, data: Path) -> tuple[Listing, Listing, Listing]:
    """What to compare with, what was held back, and what is to test, of the images of a folder."""
    if card.provenance.adopted_from:
        listing = list_images(parts(data).get("test", data), quiet=True, known=card.labels)
        return *halves(listing), listing
    splits = splits_of(card, data)
    if splits is None:
        raise DataError(
            f"{data} does not split as the folder that the model was trained on: which of its"
            " images were held back is not known. Give that folder, or train again"
        )
    return splits


def halves(listing: Listing) -> tuple[Listing, Listing]:
    """Every second file, and the others: for a model that was trained on neither."""
    places = np.arange(len(listing.paths))
    return listing.take(places[::2]), listing.take(places[1::2])


@contextmanager
def sample(
    known: Listing, held_back: Listing, size: tuple[int, int], resize: ResizeRule
) -> Iterator[tuple[Split, Split]]:
    """As many images of both as familiarity is made of, decoded into files until the block ends."""
    bank = known.take(bank_of(known.targets))
    others = held_back.take(spread(len(held_back.paths), MOST_HELD_BACK))
    with tempfile.TemporaryDirectory() as folder:
        yield (
            _decoded(bank, size, resize, Path(folder) / "bank"),
            _decoded(others, size, resize, Path(folder) / "held-back"),
        )


def _decoded(listing: Listing, size: tuple[int, int], resize: ResizeRule, file: Path) -> Split:
    kept = []
    title = f"images ({file.name})"
    with PixelWriter(file) as writer, closing(decoded(listing.paths, size, resize, title)) as read:
        for target, result in zip(listing.targets, read, strict=True):
            if isinstance(result, ReadFile):
                writer.add(result.image.pixels)
                kept.append(target)
    return Split(PixelFile(file, 0, len(kept), size), np.array(kept, np.int64))


def _measured(
    classifier: Classifier, card: ModelCard, file: Path, options: argparse.Namespace
) -> ModelCard:
    """The card with what the new file does on test images, and on strangers.

    Of the figures, only the curve is new: the others were measured where the file was made.
    """
    told = card.familiarity
    if told is None or card.provenance.adopted_from:  # its images are all used up
        if options.strangers:
            raise DataError("--strangers: an adopted model has no test images to tell them from")
        return card
    found = ask(classifier, options.data, seen=seen_by(file, card, options.data))
    told = msgspec.structs.replace(
        told,
        false_alarms=unfamiliar_share(classifier, found.familiarity),
        strangers=told.strangers
        | {folder.name: _strangers(classifier, folder, found) for folder in options.strangers},
    )
    curve = reliability(found.confidence, found.is_right)
    measured = msgspec.structs.replace(card.figures, reliability=curve)
    return msgspec.structs.replace(card, figures=measured, familiarity=told)


def _with_examples(card: ModelCard, test: Listing, options: argparse.Namespace) -> ModelCard:
    """The card with examples or without, as is said; unless it is, CIFAR-10 gets them."""
    is_cifar10 = card.provenance.config.get("dataset") == "cifar10"
    if options.examples is None and not is_cifar10:
        return card
    shown = () if options.examples is False else examples.of_listing(test, card.input)
    return msgspec.structs.replace(card, examples=shown)


def _strangers(classifier: Classifier, folder: Path, known: Answers) -> StrangerFigures:
    """How well the images of a folder are told from those of the labels. Raises DataError."""
    paths = [path for path in files_below(folder, PassedOver(folder)) if is_image(path)]
    resize = classifier.card.input.resize
    shares: list[float] = []
    title = f"strangers ({folder.name})"
    with closing(decoded(paths, classifier.input_size, resize, title)) as read:
        for result in read:
            if isinstance(result, ReadFile):
                shares += classifier.run(result.image.pixels[None]).familiarity or ()
    if known.familiarity is None or not shares:
        raise DataError(f"--strangers: none of the images of {folder} can be read")
    of_labels, of_strangers = np.array(known.familiarity), np.array(shares)
    return StrangerFigures(
        images=len(shares),
        auroc=rank_area(of_labels, of_strangers),
        passed=float((of_strangers >= np.quantile(of_labels, 1 - PASSING)).mean()),
    )
