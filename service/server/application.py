"""What gunicorn's master runs: this service, set up by its own configuration alone."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from flask import Flask
from gunicorn.app.base import Application as BaseApplication

from service.http.app import create_app
from service.runtime.sizing import Sizing
from service.server.listener import listening
from service.settings import Settings, SettingsError, variable_name

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


def serve(arguments: Mapping[str, str]) -> int:
    """Serve until told to stop; the exit status.

    Args:
        arguments: settings of the command line, by field; they win over the environment.
    """
    try:
        settings = Settings.from_environ(arguments=arguments)
        # gunicorn.conf.py reads the settings once more.
        os.environ.update({variable_name(field): text for field, text in arguments.items()})
        Sizing.fitted(settings)
        with listening(settings) as listener:
            Application(listener).run()
    except SettingsError as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return _BAD_SETTING
    return 0
