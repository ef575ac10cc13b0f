"""The fixtures of training's tests, for what goes wrong with folders."""

from tests.training.conftest import config, image_folder, trained_model

__all__ = ["config", "image_folder", "trained_model"]
