"""The page for people who try a model."""
