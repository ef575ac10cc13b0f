"""The table of documented networks: what each costs and what it reaches on CIFAR-10.

Long: hours. A row that is there already is measured again but not trained again, and a stopped one
is resumed, so the command can be given again until the table is whole. What an earlier recipe left
in a row's place is named, and neither measured nor thrown away.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.inference.classifier import Classifier
from training.autoconfig import complete
from training.config import TrainConfig, from_options
from training.data.folders import list_images
from training.errors import ConfigError, ExportError
from training.fitting import checkpoint
from training.progress import say

# More than the time allows: it ends by the clock.
_MORE = {"epochs": 60}

_HOUR = {
    "architecture": "deep",
    "branches": 3,
    "mirrored_filters": True,
    "learning_rate": 0.2,
    "bias_rate": 0.05,
    "precision": "bfloat16",
    "prune_easy": 0.75,
    "shift": 3,
    "cutout": 8,
    "validation_fraction": 0.04,
    "max_minutes": 60.0,
    **_MORE,
}

# A folder of few images, as a person may have; what is not said is chosen to suit it.
_FEW = {"dataset": "folder", "max_minutes": 9.0}
_FEW_ENLARGED = {**_FEW, "image_size": (64, 64)}
FEW_A_LABEL = 200

ROWS: dict[str, dict[str, Any]] = {
    **{
        f"{name}-10": {"architecture": name, "max_minutes": 10.0, **_MORE}
        for name in ("basic", "small", "fast")
    },
    "deep-60": _HOUR,
    "deep-60-int8": {**_HOUR, "quantize": True},
    "few-9": _FEW,
    "few-9-small": {"architecture": "small", **_FEW_ENLARGED},
    "few-9-basic": {"architecture": "basic", **_FEW_ENLARGED},
}
HEADINGS = (
    "recipe",
    "parameters",
    "MFLOP",
    "minutes",
    "epochs",
    "accuracy",
    "calibration error",
    "ms an image",
    "MB",
)


@dataclass(frozen=True)
class Result:
    """One trained model. Accuracy and calibration error are those of its card, 0..1."""

    name: str
    parameters: int
    flops: int
    minutes: float
    epochs: int
    accuracy: float
    calibration_error: float
    milliseconds: float
    megabytes: float


def benchmark(options: argparse.Namespace) -> str:
    """Train what is asked for and give the table, in Markdown. Raises TrainingError."""
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        raise ConfigError(f"--rows: {unknown[0]!r} is not one of: {', '.join(ROWS)}")
    results, refused = [], []
    for name in options.rows:
        for seed in options.seeds:
            say(f"{name}, seed {seed}")
            try:
                results.append(_result(name, row_config(name, seed, options)))
            except ExportError as error:
                refused.append(_cells(f"{name}, seed {seed}", f"refused: {error}"))
    return "\n".join([table(results), *refused])


def row_config(name: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """What a row trains; `--max-minutes` and `--epochs` cut all short, for a try, kept apart."""
    is_try = options.max_minutes or options.epochs
    folder = options.folder / "try" if is_try else options.folder
    asked = {"dataset": "cifar10", "data": options.data, **ROWS[name]}
    if asked["dataset"] == "folder":
        asked["data"] = few_images(options.data, options.folder / "few")
        asked, _ = complete(asked)  # mirrored: CIFAR-10 is known to bear it
    asked |= {"seed": seed, "output": folder / f"{name}-{seed}.onnx"}
    # In integers it is the same run, exported once more.
    asked["run"] = folder / f"{name.removesuffix('-int8')}-{seed}"
    if options.max_minutes:
        asked["max_minutes"] = options.max_minutes
    if options.epochs:
        asked["epochs"] = options.epochs
    return from_options(asked)


def few_images(source: Path | None, folder: Path) -> Path:
    """Links to the first training images of each label, and to all test images, as a folder."""
    if source is None:
        raise ConfigError("--data: rows of few images take them from CIFAR-10 as files")
    for split, most in (("train", FEW_A_LABEL), ("test", None)):
        listing = list_images(source / split, quiet=True)
        for index, label in enumerate(listing.labels):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            paths = sorted(
                p for p, t in zip(listing.paths, listing.targets, strict=True) if t == index
            )
            for path in paths[:most]:
                link = folder / split / label / path.name
                link.unlink(missing_ok=True)
                link.symlink_to(path.resolve())
    return folder


def _result(name: str, config: TrainConfig) -> Result:
    """Train, unless that is done, and measure. Raises RunError where another recipe's run lies."""
    from training.pipeline import train  # starts TensorFlow

    found = checkpoint.load(config.run_folder)
    if found is not None:
        checkpoint.require_same(found, config.identity(), config.run_folder)
    if not (config.output.exists() and found is not None and found.finished):
        train(config, resume=found is not None)
        found = checkpoint.load(config.run_folder)
    log = found.log if found is not None else ()
    parameters, flops = cost(config)
    return measured(name, config, log, (parameters, flops))


def measured(
    name: str, config: TrainConfig, log: Sequence[checkpoint.EpochLog], cost_of: tuple[int, int]
) -> Result:
    """The row of a model file that is there. Raises ExportError where its card has no figures."""
    from training.export.quantisation import milliseconds  # not for --help

    classifier = Classifier.load(config.output)
    figures = classifier.card.figures
    if figures.accuracy is None or figures.calibration_error is None:
        raise ExportError(f"nothing was measured of {config.output}: move it away to train it anew")
    return Result(
        name,
        *cost_of,
        minutes=sum(row.seconds for row in log) / 60,
        epochs=len(log),
        accuracy=figures.accuracy,
        calibration_error=figures.calibration_error,
        milliseconds=milliseconds(classifier)[0],
        megabytes=config.output.stat().st_size / 1e6,
    )


def cost(config: TrainConfig) -> tuple[int, int]:
    """Parameters of the served network, and floating-point operations of one image."""
    from training.networks.building import served_network, untrained_network  # start TensorFlow
    from training.networks.cost import flops, parameters

    model = served_network(untrained_network(config, labels=10), config)
    return parameters(model), flops(model)


def table(results: Sequence[Result]) -> str:
    """Markdown, a line for each recipe: means over its seeds, and the spread where it matters."""
    lines = [_cells(*HEADINGS), "|---" * len(HEADINGS) + "|"]
    for name in dict.fromkeys(result.name for result in results):
        rows = [result for result in results if result.name == name]
        first = rows[0]
        cells = (
            name,
            f"{first.parameters:,}",
            f"{first.flops / 1e6:.0f}",
            _mean((row.minutes for row in rows), ".1f"),
            _mean((row.epochs for row in rows), ".1f"),
            _spread([100 * row.accuracy for row in rows], ".2f"),
            _spread([100 * row.calibration_error for row in rows], ".2f"),
            _mean((row.milliseconds for row in rows), ".2f"),
            f"{first.megabytes:.1f}",
        )
        lines.append(_cells(*cells))
    return "\n".join(lines)


def _cells(*cells: str) -> str:
    """A line of the table; what is missing at its end stays empty."""
    return "| " + " | ".join([*cells, *[""] * (len(HEADINGS) - len(cells))]) + " |"


def _mean(values: Iterable[float], form: str) -> str:
    return format(statistics.fmean(values), form)


def _spread(values: Sequence[float], form: str) -> str:
    """`91.60 % (91.52 to 91.68)`."""
    mean = f"{_mean(values, form)} %"
    if len(values) < 2:
        return mean
    return f"{mean} ({format(min(values), form)} to {format(max(values), form)})"
