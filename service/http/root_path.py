"""A path under which a proxy offers the service, and which the proxy does not strip."""

from collections.abc import Callable, Iterable
from typing import Any

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def split_root(root: str, path: str) -> tuple[str, str]:
    """The root path, or nothing where a path does not begin with it, and the rest of the path."""
    if path == root or path.startswith(f"{root}/"):
        return root, "/" + path[len(root) :].lstrip("/")
    return "", path


def under_root(app: WsgiApp, root: str) -> WsgiApp:
    """An application that answers under a root path as well as without it (PEP 3333, SCRIPT_NAME).

    A server that has split a request's path already is left alone.
    """

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("SCRIPT_NAME"):
            path = "/" + environ.get("PATH_INFO", "").lstrip("/")  # as werkzeug reads it
            script, rest = split_root(root, path)
            environ = {**environ, "SCRIPT_NAME": script, "PATH_INFO": rest}
        return app(environ, start_response)

    return call
