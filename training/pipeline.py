"""From a configuration to a model file: data → fitting → calibration → export."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Collection, Iterator

from service.inference.contract import ModelCard
from training.atomic_files import make_folder, remove_drafts, require_writable, write_whole
from training.calibration import fit_temperature
from training.config import TrainConfig
from training.data import record
from training.data.loading import load
from training.errors import ExportError, RunError
from training.fitting import checkpoint
from training.fitting.checkpoint import Checkpoint
from training.fitting.distillation import load_teachers
from training.options import RUN_FILE, to_toml
from training.progress import quiet_start, say


def train(
    config: TrainConfig,
    *,
    undecided: Collection[str] = (),
    resume: bool = False,
    restart: bool = False,
) -> ModelCard:
    """Train what `config` describes and write `config.output`; the card that it carries.

    Whatever may be wrong with the folders or the images is found before TensorFlow starts.

    Args:
        config: what to train, on what.
        undecided: options that a trial decides, or that the run that is resumed has decided.
        resume: go on with the run in `config.run_folder`.
        restart: throw away an unfinished run in `config.run_folder`.

    Raises:
        TrainingError: a message for the person who started it.
    """
    started = time.monotonic()
    saved = _prepared(config, undecided, resume=resume, restart=restart)
    dataset = load(config)
    counts = ", ".join(f"{count} {split}" for split, count in dataset.counts().items())
    say(f"{dataset.name}: {len(dataset.labels)} labels; images: {counts}")
    with quiet_start():
        from training.export import model_file  # these start TensorFlow
        from training.fitting import loop, state, trial
        from training.networks.inference import predict_logits

        state.start_devices()
    if saved is None:
        config = trial.decided(config, undecided, dataset)
    else:
        config = dataclasses.replace(config, **{name: saved.identity[name] for name in undecided})
    _write_run_file(config)
    model = loop.fit(config, dataset, saved, started)
    logits = predict_logits(model, dataset.validation.images)
    temperature = fit_temperature(logits, dataset.validation.targets)
    try:
        record.write(dataset.record, config.run_folder)
        card = model_file.export(model, temperature, config, dataset)
    except (ExportError, RunError) as error:
        raise type(error)(
            f"{error}; the weights are kept, and --resume exports them again: --output may be "
            "another then, and --quantize left out"
        ) from error
    model_file.announce(card, config, time.monotonic() - started)
    config.pixel_file.unlink(missing_ok=True)
    return card


def _prepared(
    config: TrainConfig, undecided: Collection[str], *, resume: bool, restart: bool
) -> Checkpoint | None:
    """The checkpoint to go on from, once it is known that files can be written and read.

    Teachers and initial weights, a backbone's too, are read again by `fit`: here, so that a mistake
    is told before any image is decoded.
    """
    require_writable(config.output)
    identity = {key: value for key, value in config.identity().items() if key not in undecided}
    saved = checkpoint.find(config.run_folder, identity, resume=resume, restart=restart)
    written = (
        config.run_folder / name for name in (checkpoint.CHECKPOINT, checkpoint.LOG, RUN_FILE)
    )
    remove_drafts(config.output, config.trial_file, *written)
    if config.backbone:
        with quiet_start():
            from training.fitting import state  # these start TensorFlow
            from training.networks import backbone

            state.start_devices()
        backbone.require(config)
    if config.initial_weights:
        checkpoint.initial(config.initial_weights, config.network_identity())
    load_teachers(config)
    with _writing(config):
        make_folder(config.run_folder)
    return saved


def _write_run_file(config: TrainConfig) -> None:
    """Keep the options in the run folder, for `--config`."""
    with _writing(config):
        write_whole(config.run_folder / RUN_FILE, to_toml(config))


@contextlib.contextmanager
def _writing(config: TrainConfig) -> Iterator[None]:
    """What goes wrong inside is said of the run folder."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"run folder {config.run_folder} cannot be written: {error.strerror or error}"
        ) from error
