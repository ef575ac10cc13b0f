"""The Flask application: routes and wire formats, thin callers of ``service.serving``."""
