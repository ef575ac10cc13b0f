"""What a model's own metadata, and the files that exporters leave beside it, say of it.

ONNX: docs/MetadataProps.md of onnx/onnx (`Image.*`), as ML.NET's and Azure Custom Vision's tools
write it. Ultralytics: `names`, `imgsz` and `task` in the metadata. Hugging Face: `config.json`
(`id2label`) and `preprocessor_config.json`. timm: `config.json` with `label_names` and
`pretrained_cfg`. `labels.txt`: Azure Custom Vision, Teachable Machine and many others.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.adoption import labels
from training.adoption.choices import Choice
from training.adoption.normalisation import (
    PIXELS,
    TF,
    UNIT,
    Normalisation,
    from_figures,
)
from training.errors import AdoptionError, ConfigError

LABEL_FILES = ("labels.txt", "classes.txt", "labels.json", "class_indices.json")
_RANGES = {"NominalRange_0_255": PIXELS, "Normalized_0_1": UNIT, "Normalized_1_1": TF}
_WHOLE_BYTE = 1 / 255


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
    values = _RANGES.get(entries.get("Image.NominalPixelRange", ""))
    if values is not None:
        is_bgr = entries.get("Image.BitmapPixelFormat", "").startswith("Bgr")
        ranged = Normalisation(values.name, values.mean, values.deviation, is_bgr)
        found |= Hints(pixels=Choice(ranged, "Image.NominalPixelRange in its metadata"))
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def of_folder(folder: Path) -> Hints:
    """What the files beside a model tell. Raises ConfigError where one of them cannot be read."""
    found = Hints()
    for name in LABEL_FILES:
        if (folder / name).is_file():
            found |= Hints(Choice(labels.from_file(folder / name), name))
    processor = _json(folder / "preprocessor_config.json")
    if "image_mean" in processor or "size" in processor:
        found |= _of_hugging_face(processor, "preprocessor_config.json")
    config = _json(folder / "config.json")
    if "id2label" in config:
        found |= Hints(Choice(labels.from_value(config), "id2label of config.json"))
    if "pretrained_cfg" in config or "label_names" in config:
        found |= _of_timm(config, "config.json")
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} beside the model cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _of_timm(config: Mapping[str, Any], why: str) -> Hints:
    names = config.get("label_names")
    about = config.get("label_descriptions") or {}
    about = dict(zip(names or (), about, strict=False)) if isinstance(about, list) else about
    told = Hints()
    if names:
        told |= Hints(Choice(tuple(str(about.get(name, name)) for name in names), why))
    cfg = config.get("pretrained_cfg", {})
    if "mean" in cfg and "std" in cfg:
        told |= Hints(pixels=Choice(from_figures(cfg["mean"], cfg["std"]), why))
    if "input_size" in cfg:
        told |= Hints(size=Choice(_pair(cfg["input_size"][-2:]), why))
    if "crop_pct" in cfg:
        is_whole = cfg.get("crop_mode") == "squash"
        told |= Hints(resize=Choice("stretch" if is_whole else _crop(cfg["crop_pct"]), why))
    return told


def _of_hugging_face(config: Mapping[str, Any], why: str) -> Hints:
    told = Hints()
    mean, deviation = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", True):
        mean, deviation = [0.0], [1.0]
    if mean and deviation:
        told |= Hints(pixels=Choice(_rescaled(mean, deviation, config), why))
    size = config.get("size", {})
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    shown = size if edge is None else {"height": edge, "width": edge}
    resized = _pair(list(shown.values()) if isinstance(shown, dict) else shown)
    if config.get("do_center_crop") and "crop_size" in config:
        crop = config["crop_size"]
        cropped = _pair([crop["height"], crop["width"]] if isinstance(crop, dict) else crop)
        rule = _crop(cropped[0] / resized[0])
        return told | Hints(size=Choice(cropped, why), resize=Choice(rule, why))
    share = config.get("crop_pct")
    resize = _crop(share) if share else "stretch" if edge is None else "crop"
    return told | Hints(size=Choice(resized, why), resize=Choice(resize, why))


def _rescaled(mean: Any, deviation: Any, config: Mapping[str, Any]) -> Normalisation:
    """Figures that count after pixels were multiplied by `rescale_factor`."""
    factor = config.get("rescale_factor", _WHOLE_BYTE) if config.get("do_rescale", True) else 1.0
    return from_figures(
        [value * _WHOLE_BYTE / factor for value in mean],
        [value * _WHOLE_BYTE / factor for value in deviation],
    )


def _crop(share: float) -> str:
    """The resize rule that keeps so much of the centre."""
    return "crop" if share >= 1 else f"crop-{round(share, 4):g}"


def _pair(value: Any) -> tuple[int, int]:
    """Height and width of a number or two."""
    height, width = [*value] if isinstance(value, (list, tuple)) else [value, value]
    return int(height), int(width)
