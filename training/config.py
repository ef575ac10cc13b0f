"""TrainConfig: one frozen value that describes a run, and the options that make it.

Every option is written once, as a field: its type, default, help and group. The parser, the
command on the model's card and the comparison on `--resume` are all derived from the fields.
"""
# ruff: noqa: RUF009 - option() makes a dataclass field

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from service.inference.contract import ResizeRule
from training.architectures import ACTIVATIONS, ARCHITECTURES, Architecture
from training.errors import ConfigError
from training.recipes import RECIPES
from training.schedule import size_at

DATASETS = ("cifar10", "folder")
PIXELS = "pixels.bin"
OPTIMIZERS = ("adamw", "sgd", "lion", "muon")
SCHEDULES = ("cosine", "triangular", "constant")
LOSSES = ("cross-entropy", "squared-error")
PRECISIONS = ("float32", "bfloat16")
LARGEST_SIDE = 512
# What goes with an optimiser that is not the one of the architecture's recipe.
WITH_OPTIMIZER: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 2e-3, "bias_rate": 1.0},
    "sgd": {"learning_rate": 5e-2, "bias_rate": 1.0, "momentum": 0.85},
    "lion": {"learning_rate": 3e-4, "bias_rate": 1.0},
    "muon": {"learning_rate": 0.1, "bias_rate": 0.02, "momentum": 0.6},
}
# What `training.choice` gives a value to where a folder of images is all that is said.
CHOSEN = (
    "image_size",
    "architecture",
    "epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "balance",
    "shift",
    "zoom",
    "colour",
    "cutout",
)


def option(  # noqa: PLR0913 - all but two by keyword
    group: str,
    about: str,
    *,
    default: Any,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    identity: bool = True,
) -> Any:
    """A field that is also a command-line option.

    `low` and `high` bound a number, both inclusive. `identity` is False where a resumed run may
    have another value, because the trained weights do not depend on it.
    """
    metadata = {
        "group": group,
        "help": about,
        "choices": tuple(choices),
        "low": low,
        "high": high,
        "identity": identity,
    }
    return field(default=default, metadata=metadata)


def parse_size(text: str) -> tuple[int, int]:
    """`"32"` → (32, 32), `"48x64"` → (48, 64): height, then width. Raises ConfigError."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.lower())
    if match is None:
        raise ConfigError(
            f"--image-size: {text!r} is not a size; write 32, or HEIGHTxWIDTH as in 48x64"
        )
    return int(match[1]), int(match[2] or match[1])


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run, complete: the same value on the same data gives the same weights.

    Raises ConfigError for a value that cannot work, naming the option and what is allowed.
    """

    dataset: str = option(
        "data",
        "cifar10 (from --data, or else downloaded by Keras), or folder: any folder of "
        "<label>/*.jpg, or train/ and test/ folders of such; --data alone means folder",
        default="cifar10",
        choices=DATASETS,
    )
    data: Path | None = option("data", "folder that holds the images", default=None, identity=False)
    image_size: tuple[int, int] = option(
        "data",
        f"what images are resized to: 32, or HEIGHTxWIDTH, up to {LARGEST_SIDE} a side",
        default=(32, 32),
    )
    resize: ResizeRule = option(
        "data",
        "stretch (whole picture, ratio given up) or crop (centre square)",
        default="stretch",
        choices=get_args(ResizeRule),
    )
    validation_fraction: float = option(
        "data",
        "part of the training images that is held back to watch progress and to calibrate",
        default=0.1,
        low=0.01,
        high=0.5,
    )
    test_fraction: float = option(
        "data",
        "part of a folder without train/ and test/ that is set aside for the final figures",
        default=0.2,
        low=0.01,
        high=0.5,
    )
    strict: bool = option(
        "data",
        "stop at an unreadable image instead of leaving it out",
        default=False,
        identity=False,
    )
    data_name: str = option("data", "name of the data on the card", default="", identity=False)
    data_licence: str = option(
        "data", "licence of the data on the card", default="", identity=False
    )
    architecture: str = option(
        "network",
        "; ".join(map(str, ARCHITECTURES.values())),
        default="basic",
        choices=[*ARCHITECTURES],
    )
    width: float = option(
        "network", "filters of every layer, as a multiple", default=1.0, low=0.1, high=8.0
    )
    depth: int = option(
        "network",
        "convolutions in a stage; 0 is the architecture's own number",
        default=0,
        low=0,
        high=8,
    )
    branches: int = option(
        "network",
        "networks side by side behind a common first stage, each with a loss of its own, that "
        "answer together: nearly so many times the work; not for basic",
        default=1,
        low=1,
        high=8,
    )
    activation: str = option(
        "network",
        "relu (lean), or silu; basic has relu only",
        default="relu",
        choices=ACTIVATIONS,
    )
    dropout: float = option(
        "network",
        "part of the last layer's inputs dropped in a step",
        default=0.5,
        low=0.0,
        high=0.95,
    )
    symmetric: bool = option(
        "network",
        "filters in mirrored pairs, so that a picture and its mirror image get the same answer, at "
        "the same cost; not for text or what else has a left and a right",
        default=False,
    )
    whitening: float = option(
        "network",
        "variance below which a direction of the whitening first layer counts as noise",
        default=1e-2,
        low=1e-8,
    )
    epochs: int = option("training", "passes over the training images", default=30, low=1)
    max_minutes: float = option(
        "training",
        "end within so many minutes of the start, whatever --epochs says: the schedule follows "
        "the clock (0: no limit)",
        default=0.0,
        low=0.0,
    )
    patience: int = option(
        "training",
        "stop after so many epochs without a better validation loss, and keep the best (0: never)",
        default=0,
        low=0,
    )
    batch_size: int = option("training", "images in a step", default=128, low=1)
    optimizer: str = option(
        "training",
        "adamw, sgd (with Nesterov's momentum), lion, or muon (orthogonal steps)",
        default="adamw",
        choices=OPTIMIZERS,
    )
    learning_rate: float = option("training", "the peak rate", default=2e-3, low=1e-8)
    bias_rate: float = option(
        "training",
        "the biases' rate as a multiple; with muon, that of all that is no filter",
        default=1.0,
        low=1e-6,
    )
    momentum: float = option("training", "of sgd and muon", default=0.85, low=0.0, high=0.999)
    schedule: str = option(
        "training",
        "how the rate falls to 0: cosine, triangular (a straight line), or constant",
        default="cosine",
        choices=SCHEDULES,
    )
    warmup: float = option(
        "training",
        "part of the run over which the rate rises from 0",
        default=0.1,
        low=0.0,
        high=0.9,
    )
    weight_decay: float = option(
        "training",
        "decoupled decay of the weights, not of biases, nor of the filters with muon",
        default=0.05,
        low=0.0,
    )
    loss: str = option(
        "training",
        "cross-entropy, or squared-error (of the probabilities)",
        default="cross-entropy",
        choices=LOSSES,
    )
    initial_weights: Path | None = option(
        "training",
        "folder of a run of the same network on the same images: its weights are started from",
        default=None,
    )
    teachers: tuple[Path, ...] = option(
        "training",
        "model files whose answers, in the mean, are learned from, too",
        default=(),
        identity=False,  # by content, see `fit`
    )
    teaching: float = option(
        "training",
        "part of the target that the teachers give; the label gives the rest",
        default=0.9,
        low=0.0,
        high=1.0,
    )
    softening: float = option(
        "training", "temperature of the teachers' answers", default=2.0, low=0.1, high=100.0
    )
    label_smoothing: float = option(
        "training", "probability spread evenly over all labels", default=0.0, low=0.0, high=0.9
    )
    balance: float = option(
        "training",
        "how far rare labels are made up for: an image weighs 1 / (images of its label) to this "
        "power",
        default=0.0,
        low=0.0,
        high=1.0,
    )
    skip_easy: float = option(
        "training",
        "part of the images whose loss was below the mean that an epoch passes over; the others of "
        "them weigh as much more (not in the first epoch nor the last eighth of the run)",
        default=0.0,
        low=0.0,
        high=0.9,
    )
    average: float = option(
        "training",
        "keep a moving average of the weights, of this decay a step, and export it (0: none)",
        default=0.0,
        low=0.0,
        high=0.9999,
    )
    start_scale: float = option(
        "training",
        "images begin at this part of their size and grow over the first 70 % of the run",
        default=1.0,
        low=0.25,
        high=1.0,
    )
    precision: str = option(
        "training",
        "of what a step's convolutions, but for the first, take and give: float32, or bfloat16, "
        "which is faster where the processor can do it (avx512_bf16 or amx_bf16 among its flags), "
        "much slower elsewhere; weights, norms and the model file are float32",
        default="float32",
        choices=PRECISIONS,
    )
    seed: int = option("training", "makes the run repeatable", default=0, low=0, high=2**31 - 1)
    flip: bool = option("augmentation", "mirror half of the images left to right", default=True)
    alternate: bool = option(
        "augmentation", "mirror an image in every second epoch, instead of by chance", default=False
    )
    shift: int = option(
        "augmentation", "move images by up to so many pixels, edges mirrored", default=3, low=0
    )
    zoom: float = option(
        "augmentation",
        "show a part of the image, 1 - ZOOM of its sides at the least",
        default=0.0,
        low=0.0,
        high=0.9,
    )
    colour: float = option(
        "augmentation",
        "change brightness, contrast and saturation by up to this part",
        default=0.0,
        low=0.0,
        high=0.9,
    )
    noise: float = option(
        "augmentation",
        "add noise of this deviation, in grey levels",
        default=0.0,
        low=0.0,
        high=128,
    )
    cutout: int = option("augmentation", "hide a square of so many pixels", default=0, low=0)
    mixup: float = option(
        "augmentation",
        "blend images and labels in pairs; the share is drawn from Beta(MIXUP, MIXUP)",
        default=0.0,
        low=0.0,
        high=10.0,
    )
    quantize: bool = option(
        "output",
        "export in 8-bit integers: refused where on the validation images that loses more than 0.3 "
        "points, changes more than 1 % of labels or is no faster",
        default=False,
        identity=False,
    )
    output: Path = option(
        "output", "the model file to write", default=Path("runs/model.onnx"), identity=False
    )
    run: Path | None = option(
        "output",
        "folder for checkpoint and log (the output's path without its suffix, if not given)",
        default=None,
        identity=False,
    )
    name: str = option("output", "name on the card (the output's stem)", default="", identity=False)
    model_version: str = option(
        "output", "version on the card (date and graph digest)", default="", identity=False
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item, getattr(self, item.name))
        if self.dataset == "folder" and self.data is None:
            raise ConfigError("--dataset folder needs --data PATH")
        self._check_network()
        self._check_size()
        if self.run_folder == self.output:
            raise ConfigError(f"--output: {self.output} needs a suffix, such as .onnx")
        if self.data and self.run_folder.resolve().is_relative_to(self.data.resolve()):
            raise ConfigError(
                f"--run: {self.run_folder} lies in {self.data}, among the images: give another "
                "--run, or another --output"
            )

    def _check_network(self) -> None:
        architecture = ARCHITECTURES[self.architecture]
        if self.activation not in architecture.activations:
            known = ", ".join(architecture.activations)
            raise ConfigError(
                f"--activation: {self.architecture} has {known} only, not {self.activation}"
            )
        if self.symmetric and not architecture.whitens:
            able = _able(lambda item: item.whitens)
            raise ConfigError(f"--symmetric: {self.architecture} cannot be; {able} can")
        if self.branches > 1 and not architecture.whitens:
            able = _able(lambda item: item.whitens)
            raise ConfigError(f"--branches: {self.architecture} has one; {able} can have more")
        smallest = architecture.smallest_for(self.image_size, self.depth)
        if not smallest <= min(self.image_size) <= max(self.image_size) <= LARGEST_SIDE:
            deep = f" at --depth {self.depth}" if self.depth else ""
            raise ConfigError(
                f"--image-size: {_text(self.image_size)} does not fit architecture "
                f"{self.architecture}{deep}: each side must be {smallest} to {LARGEST_SIDE}"
            )

    def _check_size(self) -> None:
        architecture = ARCHITECTURES[self.architecture]
        if self.shift >= min(self.image_size):
            raise ConfigError(f"--shift: {self.shift} pixels would move the whole image away")
        if self.cutout >= min(self.image_size):
            raise ConfigError(f"--cutout: {self.cutout} pixels would hide the whole image")
        if self.start_scale == 1:
            return
        if not architecture.any_size:
            able = _able(lambda item: item.any_size)
            raise ConfigError(f"--start-scale: {self.architecture} takes one size only; {able} can")
        smallest = architecture.smallest_for(self.image_size, self.depth)
        if min(size_at(self, 0.0)) < smallest:
            raise ConfigError(
                f"--start-scale: {self.start_scale} of {_text(self.image_size)} is too small for "
                f"{self.architecture}, which needs {smallest} pixels"
            )

    @property
    def run_folder(self) -> Path:
        """Where checkpoint and log lie."""
        return self.run or self.output.with_suffix("")

    @property
    def pixel_file(self) -> Path:
        """Where decoded images are kept while the run needs them."""
        return self.run_folder / PIXELS

    @property
    def trial_file(self) -> Path:
        """What a draft of the model in integers is named after, while it is compared."""
        return self.output.with_suffix(".int8.onnx")

    @property
    def model_name(self) -> str:
        """The name on the card."""
        return self.name or self.output.stem

    def identity(self) -> dict[str, Any]:
        """What the trained weights depend on, apart from the images: the same on a resume."""
        return {
            item.name: _plain(getattr(self, item.name))
            for item in dataclasses.fields(self)
            if item.metadata["identity"]
        }

    def published(self) -> dict[str, Any]:
        """The whole configuration as JSON values, for the card: no path of this machine in it."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def command(self) -> str:
        """A command that makes this configuration, but for absolute paths (see `_plain`)."""
        words = ["python", "-m", "training"]
        usual = usual_options(self.architecture, self.optimizer)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            flag = _flag(item.name)
            named = item.name in ("dataset", "architecture")
            if value == usual.get(item.name, item.default) and not named:
                continue
            if isinstance(value, bool):
                words.append(flag if value else "--no-" + flag[2:])
            else:
                plain = _plain(value)
                words += [flag, *(plain if isinstance(plain, list) else [str(plain)])]
        return shlex.join(words)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _able(can: Callable[[Architecture], bool]) -> str:
    """Names of the architectures that can."""
    return ", ".join(name for name, item in ARCHITECTURES.items() if can(item))


def _plain(value: Any) -> Any:
    """A JSON value. Of a path that leaves the working folder only the last part is kept.

    Cards are published; the names of home folders are not.
    """
    if isinstance(value, Path):
        leaves = value.is_absolute() or value.drive or ".." in value.parts
        return value.name if leaves else value.as_posix()
    if isinstance(value, tuple):
        return _text(value) if _is_size(value) else [_plain(item) for item in value]
    return value


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], int)


def _check(item: dataclasses.Field[Any], value: Any) -> None:
    flag = _flag(item.name)
    rules = item.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise ConfigError(f"{flag}: {value!r} is not one of: {', '.join(rules['choices'])}")
    # `not (a <= b)` instead of `a > b`, so that NaN is refused too.
    if rules["low"] is not None and not value >= rules["low"]:
        raise ConfigError(f"{flag}: {value} is below {rules['low']}")
    if rules["high"] is not None and not value <= rules["high"]:
        raise ConfigError(f"{flag}: {value} is above {rules['high']}")


def _converter(default: Any, name: str) -> Any:
    """What turns the option's text into its value."""
    if name in ("data", "run", "teachers", "initial_weights"):
        return Path
    return parse_size if _is_size(default) else type(default)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser one option for each field of TrainConfig, in the fields' groups."""
    groups: dict[str, Any] = {}
    for item in dataclasses.fields(TrainConfig):
        group = item.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        settings: dict[str, Any] = {
            "dest": item.name,
            "default": argparse.SUPPRESS,
            "help": (item.metadata["help"] + _defaults(item)).replace("%", "%%"),
        }
        if isinstance(item.default, bool):
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings["type"] = _converter(item.default, item.name)
            settings["metavar"] = "|".join(item.metadata["choices"]) or _metavar(item)
            if item.default == ():
                settings["nargs"] = "+"
        groups[group].add_argument(_flag(item.name), **settings)


def _defaults(item: dataclasses.Field[Any]) -> str:
    """The option's own default, and where it has another: `(default: 1; small: 2)`."""
    by_value: dict[str, list[str]] = {}
    for architecture, recipe in RECIPES.items():
        value = recipe.get(item.name, item.default)
        if value != item.default:
            by_value.setdefault(_shown(value), []).append(architecture)
    parts = [f"{', '.join(names)}: {value}" for value, names in by_value.items()]
    general = _shown(item.default)
    if general and (parts or item.default is not False):
        parts.insert(0, general)
    rates = [f"{name} {own[item.name]}" for name, own in WITH_OPTIMIZER.items() if item.name in own]
    if rates:
        parts.append(f"with another --optimizer than the architecture's: {', '.join(rates)}")
    if item.name in CHOSEN:
        parts.append("with --data alone: chosen from the images")
    return f" (default: {'; '.join(parts)})" if parts else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value in (None, ()) else str(_plain(value))


def _metavar(item: dataclasses.Field[Any]) -> str:
    if _is_size(item.default):
        return "SIZE"
    if isinstance(item.default, (int, float)):
        return "N"
    return "TEXT" if isinstance(item.default, str) else "PATH"


def check_options(options: dict[str, Any]) -> None:
    """Raise ConfigError for a value that cannot work by itself, before any folder is looked at."""
    for item in dataclasses.fields(TrainConfig):
        if item.name in options:
            _check(item, options[item.name])


def from_options(options: dict[str, Any]) -> TrainConfig:
    """The configuration from what the parser saw, on top of the architecture's recipe.

    `--data` alone means a folder. Raises ConfigError.
    """
    if "dataset" not in options and "data" in options:
        options = {**options, "dataset": "folder"}
    if "teachers" in options:
        options = {**options, "teachers": tuple(options["teachers"])}  # the parser makes lists
    usual = usual_options(options.get("architecture", "basic"), options.get("optimizer"))
    return TrainConfig(**{**usual, **options})


def usual_options(architecture: str, optimizer: str | None) -> dict[str, Any]:
    """An architecture's recipe, with the rates of this optimiser where the recipe has another."""
    recipe = RECIPES.get(architecture, {})
    if optimizer is None or optimizer == recipe.get("optimizer", TrainConfig.optimizer):
        return recipe
    return {**recipe, **WITH_OPTIMIZER.get(optimizer, {})}
