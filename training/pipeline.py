"""From a configuration to a model file: data → fitting → calibration → export."""

from __future__ import annotations

import time

from service.inference.contract import ModelCard
from training.atomic_files import remove_drafts, require_writable, write_whole
from training.config import TrainConfig
from training.data import record
from training.data.loading import load
from training.errors import ExportError, RunError
from training.export.calibration import fit_temperature
from training.fitting import checkpoint
from training.fitting.checkpoint import Checkpoint
from training.fitting.distillation import load_teachers
from training.options import RUN_FILE, to_toml
from training.progress import quiet_start, say


def train(config: TrainConfig, *, resume: bool = False, restart: bool = False) -> ModelCard:
    """Train what `config` describes and write `config.output`; the card that it carries.

    Whatever may be wrong with the folders or the images is found before TensorFlow starts.

    Args:
        config: what to train, on what.
        resume: go on with the run in `config.run_folder`.
        restart: throw away an unfinished run in `config.run_folder`.

    Raises:
        TrainingError: a message for the person who started it.
    """
    started = time.monotonic()
    saved = _prepared(config, resume=resume, restart=restart)
    dataset = load(config)
    counts = ", ".join(f"{count} {split}" for split, count in dataset.counts().items())
    say(f"{dataset.name}: {len(dataset.labels)} labels; images: {counts}")
    _write_run_file(config)
    with quiet_start():
        from training.export import model_file  # these start TensorFlow
        from training.fitting import loop, state
        from training.networks.inference import predict_logits

        state.start_devices()
    model = loop.fit(config, dataset, saved, started)
    logits = predict_logits(model, dataset.validation.images)
    temperature = fit_temperature(logits, dataset.validation.targets)
    record.write(dataset.record, config.run_folder)
    try:
        card = model_file.export(model, temperature, config, dataset)
    except ExportError as error:
        raise ExportError(
            f"{error}; the weights are kept, and --resume exports them again: --output may be "
            "another then, and --quantize left out"
        ) from error
    model_file.announce(card, config.output)
    config.pixel_file.unlink(missing_ok=True)
    return card


def _prepared(config: TrainConfig, *, resume: bool, restart: bool) -> Checkpoint | None:
    """The checkpoint to go on from, once it is known that files can be written and read.

    Teachers and initial weights are read again by `fit`: here, so that a mistake is told before any
    image is decoded.
    """
    require_writable(config.output)
    saved = checkpoint.find(config.run_folder, config.identity(), resume=resume, restart=restart)
    written = (
        config.run_folder / name for name in (checkpoint.CHECKPOINT, checkpoint.LOG, RUN_FILE)
    )
    remove_drafts(config.output, config.trial_file, *written)
    if config.initial_weights:
        checkpoint.initial(config.initial_weights, config.network_identity())
    load_teachers(config)
    return saved


def _write_run_file(config: TrainConfig) -> None:
    """Keep the options in the run folder, for `--config`."""
    try:
        config.run_folder.mkdir(parents=True, exist_ok=True)
        write_whole(config.run_folder / RUN_FILE, to_toml(config))
    except OSError as error:
        raise RunError(f"run folder {config.run_folder} cannot be written: {error}") from error
