"""A model from elsewhere → a model file of ours: looked into, completed, checked, measured."""
