"""Docker's HEALTHCHECK: exit status 0 when the service says that it is ready.

It runs every few seconds beside the predictions, so it imports nothing but Python's own library.
"""

import http.client
import os
import sys

# The address to ask where the service listens on every address.
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    """Ask once, and leave one line for ``docker inspect``."""
    host = os.environ.get("LABELSERVE_HOST", "127.0.0.1").strip("[]")
    port = int(os.environ.get("PORT", "8000"))
    connection = http.client.HTTPConnection(_ANYWHERE.get(host, host), port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer on port {port}: {error}\n")
        return 1
    sys.stdout.write(f"{answer.status} {body}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
