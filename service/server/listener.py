"""The socket that the service listens on, made before any process is."""

import errno
import os
import socket
from contextlib import ExitStack

from service.settings import PREFIX, Settings, SettingsError

# Connections that may wait to be accepted, as far as net.core.somaxconn allows; gunicorn's default.
_BACKLOG = 2048

_ADVICE = {
    errno.EADDRINUSE: "another process listens there; end it, or choose another PORT",
    errno.EACCES: "this port needs root's rights; choose a PORT of 1024 or more",
}
_ADDRESSES = "give an address of this machine, 0.0.0.0 for every IPv4 address, or :: for every one"


def listen(settings: Settings) -> socket.socket:
    """Listen on the settings' address. Clients wait until a worker accepts them.

    gunicorn would try for five seconds where that fails, and not say why. A port whose earlier
    connections are still in TIME_WAIT is free.

    Raises:
        SettingsError: the address cannot be listened on; the message says why, and what to do.
    """
    host = settings.host.strip("[]")
    address = f"{PREFIX}HOST={settings.host} and PORT={settings.port}"
    with ExitStack() as opened:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = opened.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, settings.port))
            listener.listen(_BACKLOG)
        except (socket.gaierror, UnicodeError) as error:
            raise SettingsError(f"{address}: there is no such host; {_ADDRESSES}") from error
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            advice = _ADVICE.get(error.errno or 0, _ADDRESSES)
            raise SettingsError(f"{address} cannot be listened on: {reason}: {advice}") from error
        opened.pop_all()
    return listener
