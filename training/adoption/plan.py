"""How a foreign graph will be served: what was found out, what was told, what is assumed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from service.inference.contract import ResizeRule
from training.adoption import heads, labels, scaling, served_graph
from training.adoption.choices import ASSUMED, Choice, first, given
from training.adoption.folder import Folder, Sample
from training.adoption.foreign import ForeignGraph, ImageInput, image_input
from training.adoption.heads import Head
from training.adoption.hints import Hints
from training.adoption.normalisation import PRESETS, UNIT, Normalisation, from_figures
from training.adoption.sources import Answers, Source
from training.config import size_text
from training.errors import AdoptionError, ConfigError

IMAGENET_LABELS = 1000
FROM_GRAPH = "the graph"


@dataclass(frozen=True)
class Plan:
    """All that the served graph and its card need.

    `image`: the foreign input. `answers`: pixels, normalised, to the outputs' numbers. `repeated`:
    labels that are there twice.
    """

    image: ImageInput
    answers: Answers
    head: Head
    size: Choice[tuple[int, int]]
    layout: Choice[str]
    pixels: Choice[Normalisation]
    resize: Choice[ResizeRule]
    labels: Choice[tuple[str, ...]]
    repeated: tuple[str, ...]

    def expected(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """What the foreign network itself gives for images uint8 [N, H, W, 3]."""
        return self.answers(self.pixels.value.apply(images, self.image.channels))

    def lines(self) -> dict[str, str]:
        """What is decided, and what tells, to be read and for the card."""
        head = self.head
        numbers = f"{head.count} {head.numbers} of {head.name}, activation {head.activation}"
        choices = {
            "layout": (self.layout.value, self.layout.why),
            "size": (size_text(self.size.value), self.size.why),
            "pixels": (str(self.pixels.value), self.pixels.why),
            "resize": (self.resize.value, self.resize.why),
            "output": (numbers, head.why),
            "labels": (f"{len(self.labels.value)}", self.labels.why),
        }
        return {name: f"{value} ({why})" for name, (value, why) in choices.items()}


def made(
    source: Source, options: argparse.Namespace, model: onnx.ModelProto, folder: Folder | None
) -> Plan:
    """Decide everything.

    Args:
        source: the network.
        options: of `adopt`.
        model: its graph, `raised`.
        folder: the images that it is measured on, if there are any.

    Raises:
        ConfigError: something has to be told by an option, or an option does not fit.
        AdoptionError: this is no image classifier that can be served.
    """
    where = source.name
    image, layout = _layout(image_input(model, where), options)
    size = _size(image, options, source.hints)
    image = replace(image, size=size.value)
    graph = ForeignGraph(model, image, where)
    by_framework = source.answers is not None and layout.value == "nhwc" and image.batch is None
    answers = source.answers if by_framework and source.answers else graph.answers
    known = first(_from_option(options.labels), source.hints.labels)
    if known is None and folder is not None:
        known = Choice(folder.labels, f"assumed: {folder.path.name}'s folders, sorted")
    pixels = _pixels(image, options, source.hints, scaling.seen(model, image))
    head = heads.choose(
        model,
        _shown(answers, image, pixels, size),
        softmax=options.softmax,
        labels=known,
        where=where,
    )
    names, repeated = _told_apart(known or _no_labels(head))
    resize = first(given("--resize", options.resize), source.hints.resize) or _usual_resize(image)
    if pixels is None:
        if folder is None:
            raise _no_pixels()
        sample = folder.sample(names.value, size.value, resize.value)
        pixels = _tried(answers, head, image, sample)
    return Plan(image, answers, head, size, layout, pixels, resize, names, repeated)


def _shown(
    answers: Answers,
    image: ImageInput,
    pixels: Choice[Normalisation] | None,
    size: Choice[tuple[int, int]],
) -> dict[str, NDArray[np.float32]]:
    """What the outputs give for some images. Raises AdoptionError where they do not."""
    normalisation = pixels.value if pixels else UNIT
    try:
        return answers(normalisation.apply(drawn_images(size.value), image.channels))
    except AdoptionError as error:
        if size.why == FROM_GRAPH:
            raise
        raise AdoptionError(f"{error} (does --size {size_text(size.value)} fit it?)") from error


def _told_apart(
    names: Choice[tuple[str, ...]],
) -> tuple[Choice[tuple[str, ...]], tuple[str, ...]]:
    told, repeated = labels.told_apart(names.value)
    return Choice(told, names.why), repeated


def _from_option(text: str | None) -> Choice[tuple[str, ...]] | None:
    return None if text is None else Choice(labels.from_option(text), "--labels")


def _layout(image: ImageInput, options: argparse.Namespace) -> tuple[ImageInput, Choice[str]]:
    if image.layout is not None:
        if options.layout not in (None, image.layout):
            raise ConfigError(f"--layout: the graph's input is {image.layout}")
        return image, Choice(image.layout, FROM_GRAPH)
    if options.layout is None:
        raise ConfigError("--layout: nothing tells whether the graph takes nchw or nhwc")
    return replace(image, layout=options.layout), Choice(options.layout, "--layout")


def _size(image: ImageInput, options: argparse.Namespace, hints: Hints) -> Choice[tuple[int, int]]:
    if image.size is not None:
        if options.size not in (None, image.size):
            raise ConfigError(f"--size: the graph takes {size_text(image.size)} and nothing else")
        return Choice(image.size, FROM_GRAPH)
    found = first(given("--size", options.size), hints.size)
    if found is None:
        raise ConfigError("--size: the graph takes images of any size, and nothing tells which")
    return found


def _pixels(
    image: ImageInput,
    options: argparse.Namespace,
    hints: Hints,
    seen: Choice[Normalisation] | None,
) -> Choice[Normalisation] | None:
    """What is told of them; bytes are taken as they are, in either order of the channels."""
    found = first(_given_pixels(options), hints.pixels, seen)
    if image.type == onnx.TensorProto.UINT8 and found is not None and found.value.changes:
        if found is not hints.pixels:
            raise ConfigError(f"{found.why}: the graph takes uint8, pixels as they are")
        return seen
    return found


def _given_pixels(options: argparse.Namespace) -> Choice[Normalisation] | None:
    if options.preprocess is not None:
        if options.mean or options.std:
            raise ConfigError("--preprocess and --mean/--std say the same: give one of them")
        return Choice(PRESETS[options.preprocess], "--preprocess")
    if not (options.mean and options.std):
        if options.mean or options.std:
            raise ConfigError("--mean and --std need one another")
        return None
    try:
        return Choice(from_figures(options.mean, options.std), "--mean/--std")
    except ValueError as error:
        raise ConfigError(f"--mean/--std: {error}") from error


def _no_labels(head: Head) -> Choice[tuple[str, ...]]:
    advice = "imagenet-1k, perhaps" if head.labels == IMAGENET_LABELS else "a file with one a line"
    raise ConfigError(
        f"--labels: the graph tells {head.labels} things apart, and nothing tells their names: "
        f"give {advice}"
    )


def _no_pixels() -> ConfigError:
    return ConfigError(
        "--preprocess: nothing tells what the graph wants of pixels: give "
        f"{', '.join(PRESETS)}, or --mean and --std; or --data with images to try them on"
    )


def _tried(
    answers: Answers, head: Head, image: ImageInput, sample: Sample
) -> Choice[Normalisation]:
    """The preset with which most of the sample is answered rightly."""
    right = {
        name: float((_said(answers, head, image, preset, sample) == sample.targets).mean())
        for name, preset in PRESETS.items()
    }
    best = max(right, key=lambda name: right[name])
    figures = ", ".join(f"{name} {100 * share:.0f} %" for name, share in right.items())
    if right[best] <= np.bincount(sample.targets).max() / len(sample.targets):
        raise ConfigError(
            f"--preprocess: with none of them the images of --data are told apart ({figures}); is "
            "the order of the labels right?"
        )
    return Choice(PRESETS[best], f"of {len(sample.targets)} images right: {figures}")


def _said(
    answers: Answers, head: Head, image: ImageInput, preset: Normalisation, sample: Sample
) -> NDArray[np.int64]:
    rows = answers(preset.apply(sample.images, image.channels))[head.name]
    return np.asarray(served_graph.expected(rows, head).argmax(axis=1), np.int64)


def _usual_resize(image: ImageInput) -> Choice[ResizeRule]:
    """PyTorch's examples cut the centre out, Keras' loaders stretch."""
    return Choice("crop" if image.layout == "nchw" else "stretch", ASSUMED)


def drawn_images(size: tuple[int, int], count: int = 4) -> NDArray[np.uint8]:
    """Soft coloured shapes, uint8 [count, H, W, 3]: more like photographs than noise is."""
    rng = np.random.default_rng(0)
    height, width = size
    rows = np.linspace(0, 1, height)[None, :, None, None]
    columns = np.linspace(0, 1, width)[None, None, :, None]
    waves = rng.uniform(1, 12, (2, count, 1, 1, 3))
    shifts = rng.uniform(0, 6.3, (2, count, 1, 1, 3))
    values = np.sin(waves[0] * rows + shifts[0]) * np.sin(waves[1] * columns + shifts[1])
    return np.asarray(127.5 + 127.5 * values).round().astype(np.uint8)
