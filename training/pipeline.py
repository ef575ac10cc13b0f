"""From a configuration to a model file: data sets → fit → calibration → export."""

from __future__ import annotations

import time

from service.inference.contract import ModelCard
from training import checkpoint, datasets
from training.calibration import fit_temperature
from training.config import TrainConfig
from training.errors import ExportError
from training.files import remove_drafts, require_writable
from training.progress import quiet_start, say
from training.teaching import teachers_of


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
    require_writable(config.output)
    saved = checkpoint.find(config.run_folder, config.identity(), resume=resume, restart=restart)
    logged = (config.run_folder / name for name in (checkpoint.CHECKPOINT, checkpoint.LOG))
    remove_drafts(config.output, config.trial_file, *logged)
    # Both are read again by `fit`: here, so that a mistake is told before any image is decoded.
    if config.initial_weights:
        checkpoint.initial(config.initial_weights, config.identity())
    teachers_of(config)
    dataset = datasets.load(config)
    counts = ", ".join(f"{count} {split}" for split, count in dataset.counts().items())
    say(f"{dataset.name}: {len(dataset.labels)} labels; images: {counts}")
    with quiet_start():
        from training import export, fit, run  # these start TensorFlow

        run.start_devices()
    model = fit.fit(config, dataset, saved, started)
    logits = run.predict_logits(model, dataset.validation.images)
    temperature = fit_temperature(logits, dataset.validation.targets)
    try:
        card = export.export(model, temperature, config, dataset)
    except ExportError as error:
        raise ExportError(
            f"{error}; the weights are kept, and --resume exports them again: --output may be "
            "another then, and --quantize left out"
        ) from error
    export.announce(card, config.output)
    config.pixel_file.unlink(missing_ok=True)
    return card
