"""Docker's HEALTHCHECK: exit status 0 when the service says that it is ready.

It runs every few seconds beside the predictions, so it imports nothing but Python's own library. It
finds the service as the service finds its address: by arguments, then by variables.
"""

import argparse
import http.client
import os
import socket
import sys
from pathlib import Path

# Where to ask when the service listens on every address.
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104
_UNIX = "unix:"
_PORTS = ("PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT")


class _FileConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the file."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def address(command: list[str], environ: dict[str, str]) -> tuple[str, int]:
    """Host and port of the service with this command line and these variables."""
    port = next((environ[name] for name in _PORTS if name in environ), "8000")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=environ.get("LABELSERVE_HOST", "127.0.0.1"))
    parser.add_argument("--port", default=port)
    # docker-init has a "--" behind it, and argparse would look no further.
    given, _ = parser.parse_known_args([word for word in command if word != "--"])
    return given.host, int(given.port)


def _connection(host: str, port: int) -> http.client.HTTPConnection:
    if host.startswith(_UNIX):
        return _FileConnection(host.removeprefix(_UNIX), 2)
    plain = host.strip("[]")
    return http.client.HTTPConnection(_ANYWHERE.get(plain, plain), port, timeout=2)


def main() -> int:
    """Ask once, and leave one line for ``docker inspect``."""
    # Process 1 is the service, or an init in front of it with the same command line.
    command = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    host, port = address(command, dict(os.environ))
    connection = _connection(host, port)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        where = host if host.startswith(_UNIX) else f"port {port} of {host}"
        sys.stdout.write(f"no answer on {where}: {error}\n")
        return 1
    sys.stdout.write(f"{answer.status} {body}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
