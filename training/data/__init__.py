"""Labelled images: listed in folders, decoded, split, changed and handed on in batches."""
