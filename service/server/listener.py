"""The socket that the service listens on, made before any process is."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from service.settings import UNIX, Settings, SettingsError

# Connections that may wait to be accepted, as far as net.core.somaxconn allows; gunicorn's default.
_BACKLOG = 2048
# A socket file's permissions, 0660: who is in its group may connect, and nobody else.
_UMASK = 0o117

_ADVICE = {
    errno.EADDRINUSE: "another process listens there; end it, or choose another port",
    errno.EACCES: "this port needs root's rights; choose a port of 1024 or more",
}
_ADDRESSES = "give an address of this machine, 0.0.0.0 for every IPv4 address, or :: for every one"
_WRITABLE = "its folder has to be there, and writable, and its path shorter than 108 bytes"
_NO_IPV6 = (
    "IPv6 is off here; give 0.0.0.0 for every IPv4 address, or 127.0.0.1 for this machine's own"
)


def listen(settings: Settings) -> socket.socket:
    """Listen on the settings' address, or socket file. Clients wait until a worker accepts them.

    gunicorn would try for five seconds where that fails, and not say why. A port whose earlier
    connections are still in TIME_WAIT is free. ``::`` answers IPv4 too, whatever the system's
    default.

    Raises:
        SettingsError: the address cannot be listened on; the message says why, and what to do.
    """
    if settings.socket_path is not None:
        return _listen_on_file(settings.socket_path)
    return _listen_on_port(settings.host, settings.port)


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """``listen``; at the end the socket file is removed, unless it is another one by then.

    Processes that are forked meanwhile leave it alone.
    """
    listener, master = listen(settings), os.getpid()
    path = settings.socket_path
    made = _identity(path)
    try:
        with listener:  # whoever uses it may have taken its descriptor
            yield listener
    finally:
        if path is not None and os.getpid() == master and _identity(path) == made:
            Path(path).unlink(missing_ok=True)


def _identity(path: str | None) -> tuple[int, int] | None:
    """What tells a file from another in its place; None where there is none."""
    with suppress(OSError):
        status = Path(path or "").lstat()
        return status.st_dev, status.st_ino
    return None


def _listen_on_port(given: str, port: int) -> socket.socket:
    host = given.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = f"host {given} and port {port}"
    with ExitStack() as opened:
        try:
            listener = opened.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except (socket.gaierror, UnicodeError) as error:
            raise SettingsError(f"{address}: there is no such host; {_ADDRESSES}") from error
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            advice = _NO_IPV6 if _lacks_ipv6(host, error) else _ADVICE.get(error.errno or 0)
            raise SettingsError(
                f"{address} cannot be listened on: {reason}: {advice or _ADDRESSES}"
            ) from error
        opened.pop_all()
    return listener


def _lacks_ipv6(host: str, error: OSError) -> bool:
    """Whether an address is refused because the machine has no IPv6."""
    if error.errno == errno.EAFNOSUPPORT:
        return True
    return error.errno == errno.EADDRNOTAVAIL and host in ("::", "::1")


def _listen_on_file(path: str) -> socket.socket:
    address = f"host {UNIX}{path}"
    if not path:
        raise SettingsError(f"{address} names no file: give {UNIX} and a path")
    with ExitStack() as opened:
        try:
            _remove_stale(path, address)
            listener = opened.enter_context(socket.socket(socket.AF_UNIX))
            mask = os.umask(_UMASK)
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
            listener.listen(_BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise SettingsError(
                f"{address} cannot be listened on: {reason}; {_WRITABLE}"
            ) from error
        opened.pop_all()
    return listener


def _remove_stale(path: str, address: str) -> None:
    """Remove the socket file of a service that was killed; nothing else.

    Raises:
        SettingsError: something else is there, or a process listens on it.
        OSError: what is there cannot be seen or removed.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  as the kernel will look at it
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"{address} is no socket: another file is there; choose another path")
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
            return
        except BlockingIOError:  # it has as many connections waiting as it may
            pass
    raise SettingsError(
        f"{address} is in use: another process listens there; end it, or choose another path"
    )
