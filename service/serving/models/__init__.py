"""The models that are served: what is opened of their files, and which version answers."""
