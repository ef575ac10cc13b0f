"""Which images a model was trained on, as far as its run folder or its card can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.inference.contract import ModelCard
from training.config import TrainConfig, run_folders
from training.data import record
from training.data.folders import Listing, list_splits, parts
from training.errors import TrainingError
from training.progress import say


@dataclass(frozen=True)
class Seen:
    """Images that were trained on or held back: by their files' digests, or by their paths."""

    digests: frozenset[str] = frozenset()
    paths: frozenset[Path] = frozenset()

    def __or__(self, other: Seen) -> Seen:
        """What either has seen."""
        return Seen(self.digests | other.digests, self.paths | other.paths)

    def has(self, path: Path, digest: str) -> bool:
        """Whether this file is one of them."""
        return digest in self.digests or path in self.paths


NOTHING = Seen()


def seen_by(model: Path, card: ModelCard, data: Path) -> Seen:
    """What the model file was trained on, among the images of `data`.

    Its run folder knows, if it still lies beside it, whatever has become of the folder. Otherwise
    the card's seed splits the same folder in the same way; where it is not the same any more, that
    is said. Raises DataError.
    """
    records = (record.used(folder) for folder in run_folders(model))
    digests = next((found for found in records if found is not None), None)
    if digests is not None:
        return Seen(digests=digests)
    if card.training_data.name != data.resolve().name or parts(data):
        return NOTHING
    splits = splits_of(card, data)
    if splits is None:
        say(
            f"{data} is called like the folder that the model was trained on, but does not split "
            f"as that did: how many of its images the model has seen is not known without its run "
            f"folder ({model.with_suffix('')})"
        )
        return NOTHING
    train, validation, _ = splits
    return Seen(paths=frozenset((*train.paths, *validation.paths)))


def splits_of(card: ModelCard, data: Path) -> tuple[Listing, Listing, Listing] | None:
    """Train, validation and test of the folder that the model was trained on, split as it was then.

    None where the numbers of images are not the card's.
    """
    options = card.provenance.config
    try:
        config = TrainConfig(
            dataset="folder",
            data=data,
            seed=options["seed"],
            validation_fraction=options["validation_fraction"],
        )
        train, validation, test = list_splits(config, quiet=True)
    except (KeyError, TrainingError):
        return None
    counts = [len(listing.paths) for listing in (train, validation, test)]
    images = card.training_data.images
    if counts != [images.get(title) for title in ("train", "validation", "test")]:
        return None
    return train, validation, test
