"""What gunicorn's master runs: this service, set up by its own configuration alone."""

import socket
import sys
from pathlib import Path

from flask import Flask
from gunicorn.app.base import Application as BaseApplication

from service.http.app import create_app
from service.runtime.sizing import Sizing
from service.server.listener import listen
from service.settings import Settings, SettingsError

_CONFIGURATION = Path(__file__).parent / "gunicorn.conf.py"
_BAD_SETTING = 2


class Application(BaseApplication):  # type: ignore[misc]
    """The service on a socket that listens already.

    gunicorn's own application would also read the command line, GUNICORN_CMD_ARGS and a file in the
    working directory.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        """Read ``gunicorn.conf.py``, and nothing else."""
        self.load_config_from_file(str(_CONFIGURATION))
        self.cfg.set("bind", f"fd://{self._listener.detach()}")

    def load(self) -> Flask:
        """Make what answers, in each worker."""
        return create_app()


def serve() -> int:
    """Serve until told to stop; the exit status."""
    try:
        settings = Settings.from_environ()
        Sizing.fitted(settings)
        Application(listen(settings)).run()
    except SettingsError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return _BAD_SETTING
    return 0
