"""From a trained network to a measured model file."""
