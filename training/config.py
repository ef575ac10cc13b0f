"""TrainConfig: one frozen value that describes a run.

Every option is written once, as a field with its type, default, help and group.
`training.options` reads options from words and files, and writes them.
"""
# ruff: noqa: RUF009 - option() makes a dataclass field

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.inference.contract import ResizeRule, centre_share
from training.architectures import ARCHITECTURES, KERAS, Architecture, Recipe
from training.errors import ConfigError

DATASETS = ("cifar10", "folder")
LOSSES = ("cross-entropy", "squared-error")
PRECISIONS = ("float32", "bfloat16")
LARGEST_SIDE = 512
TEST_FRACTION = 0.2  # of a folder without train/ and test/, for the final figures


@dataclass(frozen=True)
class Kind:
    """What the values of an option are.

    `name`: for messages. `metavar`: for `--help`. `types`: of what a TOML file may have. `parse`:
    makes a value of that, or of a word; raises ValueError. `many`: whether it is a tuple of such.
    """

    name: str
    metavar: str
    types: tuple[type, ...]
    parse: Callable[[Any], Any]
    many: bool = False


def parse_size(text: object, flag: str = "--image-size") -> tuple[int, int]:
    """`"32"` → (32, 32), `"48x64"` → (48, 64): height, then width.

    Raises ConfigError, which names the flag.
    """
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(text).lower())
    if match is None:
        raise ConfigError(f"{flag}: {text!r} is not a size; write 32, or HEIGHTxWIDTH as in 48x64")
    return int(match[1]), int(match[2] or match[1])


def parse_resize(text: object) -> ResizeRule:
    """A rule that `centre_share` knows. Raises ConfigError."""
    rule = str(text)
    try:
        centre_share(rule)
    except ValueError as error:
        raise ConfigError(f"--resize: {error}") from error
    return rule


SWITCH = Kind("true or false", "", (bool,), bool)
WHOLE = Kind("a whole number", "N", (int,), int)
NUMBER = Kind("a number", "N", (int, float), float)
TEXT = Kind("a text", "TEXT", (str,), str)
SIZE = Kind("a size", "SIZE", (int, str), parse_size)
RESIZE = Kind("a rule", "stretch|crop|crop-SHARE", (str,), parse_resize)
PATH = Kind("a path", "PATH", (str,), Path)
PATHS = dataclasses.replace(PATH, name="a list of paths", many=True)
_KINDS_OF_DEFAULTS = {bool: SWITCH, int: WHOLE, float: NUMBER, str: TEXT}


def option(  # noqa: PLR0913 - all but two by keyword
    group: str,
    about: str,
    *,
    default: Any,
    kind: Kind | None = None,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    identity: bool = True,
    chosen: bool = False,
) -> Any:
    """A field that is also an option.

    `kind` is that of the default where it is not given. `low` and `high` bound a number, both
    inclusive. `identity` is False where a resumed run may have another value, because the trained
    weights do not depend on it. `chosen` says that `training.autoconfig` gives it a value where a
    folder of images is all that is said.
    """
    metadata = {
        "group": group,
        "help": about,
        "kind": kind or _KINDS_OF_DEFAULTS[type(default)],
        "choices": tuple(choices),
        "low": low,
        "high": high,
        "identity": identity,
        "chosen": chosen,
    }
    return field(default=default, metadata=metadata)


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
    data: Path | None = option(
        "data", "folder that holds the images", default=None, kind=PATH, identity=False
    )
    image_size: tuple[int, int] = option(
        "data",
        f"what images are resized to: 32, or HEIGHTxWIDTH, up to {LARGEST_SIDE} a side",
        default=(32, 32),
        kind=SIZE,
        chosen=True,
    )
    resize: ResizeRule = option(
        "data",
        "stretch (the whole image, ratio given up), crop (centre square), or crop-0.875 (of that "
        "square only this share of each side, as in many evaluations: 224 of 256 pixels)",
        default="stretch",
        kind=RESIZE,
    )
    validation_fraction: float = option(
        "data",
        "part of the training images that is held back to watch progress and to calibrate",
        default=0.1,
        low=0.01,
        high=0.5,
    )
    strict: bool = option(
        "data",
        "stop at an unreadable image, or a link that is not followed, instead of leaving it out",
        default=False,
        identity=False,
    )
    data_licence: str = option(
        "data", "licence of the data on the card", default="", identity=False
    )
    architecture: str = option(
        "network",
        "; ".join(map(str, ARCHITECTURES.values())),
        default="basic",
        choices=[*ARCHITECTURES],
        chosen=True,
    )
    backbone: str | None = option(
        "network",
        "start from a network of keras.applications, such as keras:EfficientNetV2B0, and the "
        f"weights that Keras downloads for it, in place of an --architecture (it means {KERAS})",
        default=None,
        kind=TEXT,
    )
    width: float = option(
        "network", "filters of every layer, as a multiple", default=1.0, low=0.1, high=8.0
    )
    branches: int = option(
        "network",
        "networks side by side behind a common first stage, each with a loss of its own, that "
        "answer together: nearly so many times the work; not for basic",
        default=1,
        low=1,
        high=8,
    )
    mirrored_filters: bool = option(
        "network",
        "filters in mirrored pairs, so that an image and its mirror image get the same answer, at "
        "the same cost; not for basic, nor for text or what else has a left and a right",
        default=False,
    )
    epochs: int = option(
        "training", "passes over the training images", default=30, low=1, chosen=True
    )
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
        chosen=True,
    )
    batch_size: int = option("training", "images in a step", default=128, low=1, chosen=True)
    learning_rate: float = option("training", "the peak rate", default=2e-3, low=1e-8, chosen=True)
    bias_rate: float = option(
        "training",
        "the biases' rate, as a multiple of --learning-rate; of all networks but basic, that of "
        "weights that are no filters",
        default=1.0,
        low=1e-6,
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
        kind=PATH,
    )
    teachers: tuple[Path, ...] = option(
        "training",
        "model files for distillation: the mean of their answers is learned from, too",
        default=(),
        kind=PATHS,
        identity=False,  # by content, see `fitting.loop`
    )
    class_weighting: float = option(
        "training",
        "how far rare labels are made up for: an image weighs 1 / (images of its label) to this "
        "power",
        default=0.0,
        low=0.0,
        high=1.0,
        chosen=True,
    )
    prune_easy: float = option(
        "training",
        "part of the images whose loss was below the mean that an epoch leaves out; the others of "
        "them weigh as much more (not in the first epoch nor the last eighth of the run)",
        default=0.0,
        low=0.0,
        high=0.9,
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
    flip: bool = option(
        "augmentation", "mirror half of the images left to right", default=True, chosen=True
    )
    shift: int = option(
        "augmentation",
        "move images by up to so many pixels, edges mirrored",
        default=3,
        low=0,
        chosen=True,
    )
    zoom: float = option(
        "augmentation",
        "show a part of the image, 1 - ZOOM of its sides at the least",
        default=0.0,
        low=0.0,
        high=0.9,
        chosen=True,
    )
    colour: float = option(
        "augmentation",
        "change brightness, contrast and saturation by up to this part",
        default=0.0,
        low=0.0,
        high=0.9,
        chosen=True,
    )
    cutout: int = option(
        "augmentation", "hide a square of so many pixels", default=0, low=0, chosen=True
    )
    quantize: bool = option(
        "output",
        "export in 8-bit integers: refused where on the validation images that loses more than 0.3 "
        "points, changes more than 1 % of labels or is no faster",
        default=False,
        identity=False,
    )
    output: Path = option(
        "output",
        "the model file to write",
        default=Path("runs/model.onnx"),
        kind=PATH,
        identity=False,
    )
    run: Path | None = option(
        "output",
        "folder for checkpoint, log and run.toml (if not given, the output's path without its "
        "suffix, or with .run for it where that is the folder of the images)",
        default=None,
        kind=PATH,
        identity=False,
    )
    name: str = option("output", "name on the card (the output's stem)", default="", identity=False)
    examples: bool | None = option(
        "output",
        "put ten small test images into the model file, which the page shows to those who try it; "
        "whoever has the file has them (if not given, for cifar10 alone)",
        default=None,
        kind=SWITCH,
        identity=False,
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            check(item, getattr(self, item.name))
        parse_resize(self.resize)
        if self.dataset == "folder" and self.data is None:
            raise ConfigError("--dataset folder needs --data PATH")
        self._check_network()
        self._check_augmentation()
        self._check_paths()

    def _check_network(self) -> None:
        architecture = self.network
        if self.backbone and self.architecture != KERAS:
            raise ConfigError(
                f"--backbone: {self.backbone} takes the place of --architecture "
                f"{self.architecture}: give one of them"
            )
        if self.architecture == KERAS and not self.backbone:
            raise ConfigError(
                f"--architecture {KERAS} needs --backbone, such as {KERAS}:EfficientNetV2B0"
            )
        staged = ", ".join(name for name, item in ARCHITECTURES.items() if item.is_staged)
        if self.mirrored_filters and not architecture.is_staged:
            raise ConfigError(
                f"--mirrored-filters: {self.architecture} cannot have them; {staged} can"
            )
        if self.width != 1 and architecture.is_pretrained:
            raise ConfigError(f"--width: {self.architecture} has the width of its weights")
        if self.branches > 1 and not architecture.is_staged:
            raise ConfigError(f"--branches: {self.architecture} has one; {staged} can have more")
        smallest = architecture.smallest_for(self.image_size)
        if not smallest <= min(self.image_size) <= max(self.image_size) <= LARGEST_SIDE:
            raise ConfigError(
                f"--image-size: {size_text(self.image_size)} does not fit architecture "
                f"{self.architecture}: each side must be {smallest} to {LARGEST_SIDE}"
            )

    def _check_augmentation(self) -> None:
        if self.shift >= min(self.image_size):
            raise ConfigError(f"--shift: {self.shift} pixels would move the whole image away")
        if self.cutout >= min(self.image_size):
            raise ConfigError(f"--cutout: {self.cutout} pixels would hide the whole image")

    def _check_paths(self) -> None:
        if self.output in (self.run_folder, self.run or run_folders(self.output)[0]):
            raise ConfigError(f"--output: {self.output} needs a suffix, such as .onnx")
        if self._is_among_images(self.run_folder):
            flag = "--run" if self.run else "--output"
            raise ConfigError(
                f"{flag}: the run folder {self.run_folder} lies in {self.data}, among the images: "
                f"give another {flag}"
            )

    @property
    def network(self) -> Architecture:
        """What is said of the architecture that has been asked for."""
        return ARCHITECTURES[self.architecture]

    @property
    def recipe(self) -> Recipe:
        """How the architecture is trained, apart from the options."""
        return self.network.recipe

    @property
    def run_folder(self) -> Path:
        """Where checkpoint, log and run.toml lie."""
        if self.run:
            return self.run
        usual, other = run_folders(self.output)
        return other if self._is_among_images(usual) else usual

    def _is_among_images(self, path: Path) -> bool:
        return bool(self.data and path.resolve().is_relative_to(self.data.resolve()))

    @property
    def pixel_file(self) -> Path:
        """Where decoded images are kept while the run needs them."""
        return self.run_folder / "pixels.bin"

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
            **self._values(lambda item: bool(item.metadata["identity"])),
            "recipe": dataclasses.asdict(self.recipe),
        }

    @property
    def shows_examples(self) -> bool:
        """Whether test images go into the model file: a person's own do if that is said."""
        return self.dataset == "cifar10" if self.examples is None else self.examples

    def network_identity(self) -> dict[str, Any]:
        """What has to be the same for a network's weights to fit into this one."""
        return self._values(lambda item: item.metadata["group"] == "network")

    def published(self) -> dict[str, Any]:
        """The whole configuration as JSON values, for the card: no path of this machine in it."""
        return {**self._values(lambda _: True), "recipe": dataclasses.asdict(self.recipe)}

    def _values(self, wanted: Callable[[dataclasses.Field[Any]], bool]) -> dict[str, Any]:
        fields = filter(wanted, dataclasses.fields(self))
        return {item.name: publishable(getattr(self, item.name)) for item in fields}


def run_folders(model: Path) -> tuple[Path, Path]:
    """Where a model file's run lies, unless it is said: the second where the first is the images'.

    As in --data pets --output pets.onnx: pets/ are the images, pets.run/ is the run folder.
    """
    return model.with_suffix(""), model.with_suffix(".run")


def check(item: dataclasses.Field[Any], value: Any) -> None:
    """Raise ConfigError for a value that cannot work by itself."""
    flag = flag_of(item.name)
    rules = item.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise ConfigError(f"{flag}: {value!r} is not one of: {', '.join(rules['choices'])}")
    # `not (a <= b)` instead of `a > b`, so that NaN is refused too.
    if rules["low"] is not None and not value >= rules["low"]:
        raise ConfigError(f"{flag}: {value} is below {rules['low']}")
    if rules["high"] is not None and not value <= rules["high"]:
        raise ConfigError(f"{flag}: {value} is above {rules['high']}")


def check_options(options: dict[str, Any]) -> None:
    """Raise ConfigError for a value that cannot work by itself, before any folder is looked at."""
    for item in dataclasses.fields(TrainConfig):
        if item.name in options:
            check(item, options[item.name])


def from_options(options: dict[str, Any]) -> TrainConfig:
    """The configuration from given options, on top of the architecture's. Raises ConfigError."""
    options = with_meant(options)
    return TrainConfig(**{**usual_options(options.get("architecture", "basic")), **options})


def with_meant(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with those that they mean: `--data` alone means a folder, `--backbone` keras."""
    meant = {"dataset": "folder"} if "data" in options else {}
    if options.get("backbone"):
        meant["architecture"] = KERAS
    return {**meant, **options}


def usual_options(architecture: str) -> dict[str, Any]:
    """Defaults of an architecture that differ from the options' own; none for an unknown one."""
    return dict(ARCHITECTURES[architecture].options) if architecture in ARCHITECTURES else {}


def flag_of(name: str) -> str:
    """A field's name as it is typed."""
    return "--" + name.replace("_", "-")


def size_text(size: tuple[int, int]) -> str:
    """(48, 64) → "48x64", which `parse_size` reads."""
    return f"{size[0]}x{size[1]}"


def publishable(value: Any) -> Any:
    """A JSON value. Of a path that leaves the working folder only the last part is kept.

    Cards are published; the names of home folders are not.
    """
    if isinstance(value, Path):
        leaves = value.is_absolute() or value.drive or ".." in value.parts
        return value.name if leaves else value.as_posix()
    if isinstance(value, tuple):
        is_size = len(value) == 2 and isinstance(value[0], int)
        return size_text(value) if is_size else [publishable(item) for item in value]
    return value
