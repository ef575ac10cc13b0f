"""A start that is expected to fail."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.server import ROOT, free_port, server_environ


class Refusal(NamedTuple):
    """How a start ended: its status, everything that it said, and the seconds it took."""

    status: int
    lines: list[str]
    seconds: float


def refused(
    model: Path | None = None,
    command: tuple[str, ...] = (),
    folder: Path = ROOT,
    by: tuple[str, ...] = (),
    **settings: object,
) -> Refusal:
    """Run the service, or another command of it, to its end; ``by`` runs the command behind it."""
    begun = time.monotonic()
    environ = server_environ(model, free_port(), settings)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [environ.get("PYTHONPATH"), str(ROOT)]))
    done = subprocess.run(
        [*by, sys.executable, "-m", "service", *command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    return Refusal(done.returncode, lines, time.monotonic() - begun)
