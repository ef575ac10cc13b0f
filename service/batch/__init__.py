"""Predictions of files without HTTP, by the million: the same answers, on all cores."""
