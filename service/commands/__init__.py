"""Commands of `python -m service` that serve nothing and need model files only."""
