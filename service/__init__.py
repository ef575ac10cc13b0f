"""labelserve's serving side: images in, per-label probabilities out."""

__version__ = "0.1.0"
