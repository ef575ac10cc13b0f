"""A card on a graph: what names the file, and what is written into it."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import platform
from pathlib import Path

import msgspec
import onnx

from service.inference.contract import METADATA_KEY, Figures, ModelCard

LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "pillow")


def now() -> dt.datetime:
    """The time in UTC, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def version_of(model: onnx.ModelProto, created: dt.datetime) -> str:
    """The date, and the graph by the beginning of its SHA-256."""
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()
    return f"{created:%Y.%m.%d}-{digest[:8]}"


def libraries() -> dict[str, str]:
    """Versions of what makes a file."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **versions}


def with_figures(card: ModelCard, figures: Figures, false_alarms: float | None) -> ModelCard:
    """The card with what was measured; false alarms where it has familiarity."""
    card = msgspec.structs.replace(card, figures=figures)
    if card.familiarity is None:
        return card
    told = msgspec.structs.replace(card.familiarity, false_alarms=false_alarms)
    return msgspec.structs.replace(card, familiarity=told)


def save(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write the model with this card in its metadata, in place of any it had. Raises OSError."""
    kept = [(prop.key, prop.value) for prop in model.metadata_props if prop.key != METADATA_KEY]
    onnx.helper.set_model_props(model, {**dict(kept), METADATA_KEY: card.to_json()})
    path.write_bytes(model.SerializeToString())
