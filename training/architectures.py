"""Defaults per architecture: what differs from the options' own defaults.

`basic` has none: the tutorial's network is trained as TrainConfig says. The staged networks share
one recipe, after K. Jordan's records (2024): Muon for the filters, images mirrored in every second
epoch; but labels are not smoothed, so that probabilities mean what they say. docs/training.md has
what was measured on the way to it.
"""

from __future__ import annotations

from typing import Any

_STAGED: dict[str, Any] = {
    "dropout": 0.0,
    "batch_size": 512,
    "optimizer": "muon",
    "learning_rate": 0.1,
    "bias_rate": 0.1,
    "momentum": 0.6,
    "schedule": "triangular",
    "warmup": 0.0,
    "weight_decay": 0.0,
    "alternate": True,
    "shift": 2,
}

RECIPES: dict[str, dict[str, Any]] = {
    "basic": {},
    "small": {**_STAGED, "epochs": 10},
    "fast": {**_STAGED, "epochs": 18},
    "deep": {**_STAGED, "epochs": 18},
}
