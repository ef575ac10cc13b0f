"""The run folder: a checkpoint after each epoch, and the log.

Whatever is written appears whole or not at all (a new file, then `os.replace`), so a run that is
killed at any moment leaves the last complete epoch.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.atomic_files import make_folder, write_whole
from training.errors import RunError

CHECKPOINT = "checkpoint.npz"
LOG = "log.csv"


@dataclass(frozen=True)
class EpochLog:
    """One epoch as the log has it; losses are mean cross-entropies, accuracies 0..1.

    `loss` and `accuracy` are those of the training steps: with augmentation and dropout, so they
    are not comparable with the validation's, whose loss is that of calibrated answers.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    waiting: float = 0.0  # part of the training time that was spent waiting for images


@dataclass(frozen=True)
class Checkpoint:
    """A run after `len(log)` epochs: all that the rest of it depends on.

    `identity` is the configuration and the data that it belongs to; `variables` are the network's
    and the optimisers', in Keras' order. `best` are the network's after the epoch of the lowest
    validation loss, where the run keeps them, and `start_loss` is the validation loss before the
    first epoch, where the network knows something by then. `losses` are the training images' last
    ones, [N]. `finished` says that no epoch is to follow.
    """

    identity: dict[str, Any]
    log: tuple[EpochLog, ...]
    variables: tuple[NDArray[Any], ...]
    best: tuple[NDArray[Any], ...] = ()
    finished: bool = False
    start_loss: float = math.inf
    losses: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.log)


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write checkpoint and log. Raises RunError where that is not possible."""
    about = {
        "identity": checkpoint.identity,
        "log": [asdict(row) for row in checkpoint.log],
        "finished": checkpoint.finished,
        "start_loss": checkpoint.start_loss,
    }
    names = {
        f"{kind}_{i:04d}": value
        for kind, values in (("variable", checkpoint.variables), ("best", checkpoint.best))
        for i, value in enumerate(values)
    }
    names["losses"] = checkpoint.losses
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, about=np.array(json.dumps(about)), **names)
    try:
        make_folder(folder)
        write_whole(folder / CHECKPOINT, content.getvalue())
        write_whole(folder / LOG, _csv(checkpoint.log))
    except OSError as error:
        raise RunError(
            f"run folder {folder} cannot be written: {error.strerror or error}"
        ) from error


def load(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None if it has none. Raises RunError for one that is damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        # From memory: np.load leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            about = json.loads(str(content["about"]))
            variables, best = (
                tuple(content[name] for name in sorted(content.files) if name.startswith(kind))
                for kind in ("variable_", "best_")
            )
            losses = content["losses"]
        log = tuple(EpochLog(**row) for row in about["log"])
        state = about["finished"], about.get("start_loss", math.inf)
        return Checkpoint(about["identity"], log, variables, best, *state, losses)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"checkpoint {path} cannot be read: {error}") from error


def find(
    folder: Path, identity: dict[str, Any], *, resume: bool, restart: bool
) -> Checkpoint | None:
    """The checkpoint that a run with this identity starts from; None for a start from scratch.

    Raises:
        RunError: nothing to resume, or a run of other settings; an unfinished run that would be
            lost, unless `restart`.
    """
    if restart:
        return None
    found = load(folder)
    if resume:
        if found is None:
            raise RunError(f"--resume: there is no checkpoint in {folder}")
        require_same(found, identity, folder)
        return found
    if found is not None and found.log and not found.finished:
        raise RunError(
            f"{folder} has a run that was stopped after epoch {found.epochs} of "
            f"{found.identity['epochs']}: continue it with --resume, or start anew with --restart"
        )
    return None


def initial(folder: Path, wanted: dict[str, Any]) -> Checkpoint:
    """The checkpoint of another run, whose weights a run may begin with.

    `wanted`: what their identities have to have in common.

    Raises RunError where there is none, or where it was another network or learned from other
    images: some of those that are held back here, for instance.
    """
    found = load(folder)
    if found is None:
        raise RunError(f"--initial-weights: there is no checkpoint in {folder}")
    differing = _differing(found, wanted)
    if differing:
        raise RunError(f"--initial-weights: the run in {folder} has other {differing}")
    return found


def require_same(found: Checkpoint, identity: dict[str, Any], folder: Path) -> None:
    """Raise RunError where the checkpoint was made with other settings or images."""
    differing = _differing(found, identity)
    if differing:
        raise RunError(
            f"the run in {folder} was started with other {differing}: remove it, or give another "
            "folder"
        )


def _differing(found: Checkpoint, identity: dict[str, Any]) -> str:
    differing = [key for key, value in identity.items() if found.identity.get(key) != value]
    return ", ".join(key.replace("_", " ") for key in differing)


def _csv(log: Sequence[EpochLog]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(EpochLog)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: round(v, 6) for k, v in asdict(row).items()} for row in log)
    return text.getvalue().encode()
