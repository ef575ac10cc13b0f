"""What a model's own metadata, and the files that exporters leave beside it, say of it.

ONNX: docs/MetadataProps.md of onnx/onnx (`Image.*`), as ML.NET's and Azure Custom Vision's tools
write it. Ultralytics: `names`, `imgsz` and `task` in the metadata. Hugging Face: `config.json`
(`id2label`) and `preprocessor_config.json`. timm: `config.json` with `label_names` and
`pretrained_cfg`. `labels.txt`: Azure Custom Vision, Teachable Machine and many others.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from training.adoption import labels
from training.adoption.choices import Choice
from training.adoption.normalisation import (
    PIXELS,
    TF,
    UNIT,
    Normalisation,
    from_figures,
)
from training.adoption.options import LARGEST_SIDE
from training.errors import AdoptionError, ConfigError
from training.progress import say

_T = TypeVar("_T")
LABEL_FILES = ("labels.txt", "classes.txt", "labels.json", "class_indices.json")
_RANGES = {"NominalRange_0_255": PIXELS, "Normalized_0_1": UNIT, "Normalized_1_1": TF}
_WHOLE_BYTE = 1 / 255
_STRETCHED_FROM = 384  # pixels


@dataclass(frozen=True)
class Hints:
    """Choices that are told; None where nothing tells. `licence`: "" where nothing does."""

    labels: Choice[tuple[str, ...]] | None = None
    pixels: Choice[Normalisation] | None = None
    size: Choice[tuple[int, int]] | None = None
    resize: Choice[str] | None = None
    licence: str = ""

    def __or__(self, other: Hints) -> Hints:
        """These, and what only the others have."""
        return Hints(
            self.labels or other.labels,
            self.pixels or other.pixels,
            self.size or other.size,
            self.resize or other.resize,
            self.licence or other.licence,
        )


def of_metadata(entries: Mapping[str, str], where: str) -> Hints:
    """What the entries of an ONNX file's metadata tell. Raises AdoptionError for a detector's."""
    task = entries.get("task", "classify")
    if task != "classify" and "names" in entries:
        raise AdoptionError(f"{where} is a model for the task {task!r}, no classifier")
    found = Hints(licence=entries.get("license", ""))
    found |= _understood(_of_ultralytics, entries, "its metadata")
    values = _RANGES.get(entries.get("Image.NominalPixelRange", ""))
    if values is not None:
        is_bgr = entries.get("Image.BitmapPixelFormat", "").startswith("Bgr")
        why = "Image.NominalPixelRange in its metadata"
        found |= Hints(pixels=Choice(replace(values, is_bgr=is_bgr), why))
    return found


def _understood(read: Callable[[_T], Hints], content: _T, where: str) -> Hints:
    """What can be read of the content; it may be of something else, and options may say all."""
    try:
        return read(content)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        ConfigError,
    ) as error:
        say(f"{where} is left out, as it is not understood: {error}")
        return Hints()


def _of_ultralytics(entries: Mapping[str, str]) -> Hints:
    found = Hints()
    if "names" in entries:  # Ultralytics writes Python's literals
        names = labels.from_value(_literal(entries["names"]))
        found |= Hints(
            Choice(names, "names in its metadata"),
            Choice(UNIT, "as Ultralytics' models"),
            resize=Choice("crop", "as Ultralytics' models"),
        )
    if "imgsz" in entries:
        height, width = _pair(_literal(entries["imgsz"]))
        found |= Hints(size=Choice((height, width), "imgsz in its metadata"))
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def of_folder(folder: Path) -> Hints:
    """What the files beside a model tell; those that cannot be understood are named, and left."""
    found = Hints()
    for name in LABEL_FILES:
        if (folder / name).is_file():
            found |= _understood(_of_labels, folder / name, f"{name} beside the model")
    for name, read in (("preprocessor_config.json", _of_hugging_face), ("config.json", _of_config)):
        if (folder / name).is_file():
            found |= _understood(_of_json(read), folder / name, f"{name} beside the model")
    return found


def _of_labels(path: Path) -> Hints:
    names = labels.from_file(path)
    labels.told_apart(names)
    return Hints(Choice(names, path.name))


def _of_json(read: Callable[[Mapping[str, Any], str], Hints]) -> Callable[[Path], Hints]:
    def understood(path: Path) -> Hints:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        return read(value, path.name) if isinstance(value, dict) else Hints()

    return understood


def _of_config(config: Mapping[str, Any], why: str) -> Hints:
    """Of timm's, or of Hugging Face's."""
    found = Hints()
    if "id2label" in config:
        found |= Hints(Choice(labels.from_value(config), f"id2label of {why}"))
    return found | _of_timm(config, why)


def _of_timm(config: Mapping[str, Any], why: str) -> Hints:
    names = config.get("label_names") or ()
    about = config.get("label_descriptions") or {}
    about = dict(zip(names, about, strict=False)) if isinstance(about, list) else about
    cfg = config.get("pretrained_cfg") or {}
    told = Hints(licence=str(cfg.get("license") or ""))
    if names:
        told |= Hints(Choice(tuple(str(about.get(name, name)) for name in names), why))
    if "mean" in cfg and "std" in cfg:
        told |= Hints(pixels=Choice(from_figures(cfg["mean"], cfg["std"]), why))
    if "input_size" in cfg:
        told |= Hints(size=Choice(_pair(cfg["input_size"][-2:]), why))
    if "crop_pct" in cfg:
        is_whole = cfg.get("crop_mode") == "squash"
        told |= Hints(resize=Choice("stretch" if is_whole else _crop(cfg["crop_pct"]), why))
    return told


def _of_hugging_face(config: Mapping[str, Any], why: str) -> Hints:
    return Hints(pixels=_rescaled(config, why)) | _resized(config, why)


def _rescaled(config: Mapping[str, Any], why: str) -> Choice[Normalisation] | None:
    """Of figures that count after pixels were multiplied by `rescale_factor`."""
    mean, deviation = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", True):
        mean, deviation = [0.0], [1.0]
    if not mean or not deviation or config.get("rescale_offset"):
        return None
    factor = config.get("rescale_factor", _WHOLE_BYTE) if config.get("do_rescale", True) else 1.0
    shares = [[value * _WHOLE_BYTE / factor for value in each] for each in (mean, deviation)]
    return Choice(from_figures(*shares), why)


def _resized(config: Mapping[str, Any], why: str) -> Hints:
    """Of `size`: a number, height and width, or the shorter edge, of which a part may be kept."""
    if not config.get("size"):
        return Hints()
    size = config["size"]
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    resized = _pair(size if edge is None else edge)
    if config.get("do_center_crop") and "crop_size" in config:
        cropped = _pair(config["crop_size"])
        rule = _crop(cropped[0] / resized[0])
        return Hints(size=Choice(cropped, why), resize=Choice(rule, why))
    share = config.get("crop_pct")  # ConvNeXt's, which stretches large images
    is_cut = resized[0] < _STRETCHED_FROM if share else edge is not None
    rule = _crop(share or 1.0) if is_cut else "stretch"
    return Hints(size=Choice(resized, why), resize=Choice(rule, why))


def _crop(share: float) -> str:
    """The resize rule that keeps so much of the centre."""
    share = round(share, 4)
    return "crop" if share >= 1 else f"crop-{share:g}"


def _pair(value: Any) -> tuple[int, int]:
    """Height and width of a number, of two, or of an object that names them."""
    if isinstance(value, dict):
        value = [value["height"], value["width"]]
    height, width = value if isinstance(value, (list, tuple)) else [value, value]
    if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise ValueError(f"images of {height}x{width}")
    return int(height), int(width)
