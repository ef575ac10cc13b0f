"""labelserve's serving side: images in, per-label probabilities out."""
