"""Keras networks: built to be trained, and built again as they are served."""
