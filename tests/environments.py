"""Environments of a test's own: what is too large, or too strange, for the project's locks.

They live in the user's cache, are set up once, and are named after what is in them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest

UV = (sys.executable, "-m", "uv", "--quiet")


def python_with(*packages: str, by: Literal["uv", "pip"] = "uv") -> Path:
    """The interpreter of an environment with these packages; the test is skipped without it.

    uv is many times quicker; pip takes what is large from where its own settings say that it lies.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = _folder(f"python{version}", packages)
    python = folder / "bin" / "python"
    create = [*UV, "venv", "--clear", "--seed", "--python", sys.executable, str(folder)]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install = pip if by == "pip" else [*UV, "pip", "install", "--python", str(python)]
    _set_up(folder, create, [*install, *packages])
    return python


def files_of(*packages: str, platform: str) -> Path:
    """A folder of these packages as they are for another system; the test is skipped without it.

    Args:
        packages: what is installed.
        platform: the system, in uv's words.
    """
    folder = _folder(platform, packages)
    target = ["--target", str(folder), "--python-platform", platform]
    _set_up(folder, [*UV, "pip", "install", *target, *packages])
    return folder


def node_modules_with(*packages: str) -> Path:
    """A folder of Node.js modules with these packages; the test is skipped without it."""
    if shutil.which("npm") is None:
        pytest.skip(f"NOT TESTED: there is no npm to install {', '.join(packages)} with")
    folder = _folder("node", packages)
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    _set_up(folder, [*npm, *packages])
    return folder / "node_modules"


def _folder(language: str, packages: Sequence[str]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = sha256("\n".join(packages).encode()).hexdigest()[:8]
    return cache / "labelserve" / f"{packages[0].replace('/', '-')}-{digest}-{language}"


def _set_up(folder: Path, *commands: Sequence[str]) -> None:
    ready = folder / "ready"
    if ready.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = " ".join((done.stderr or done.stdout).split())[:400] or "no reason given"
            pytest.skip(f"NOT TESTED: {folder.name} cannot be set up here: {reason}")
    ready.touch()
