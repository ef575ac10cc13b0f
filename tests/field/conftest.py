"""The fixtures of training's tests, for what goes wrong with folders, and a small disk."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.conftest import config, image_folder, trained_model

__all__ = ["config", "image_folder", "trained_model"]


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, of as many bytes as its module's SIZE says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.module.SIZE}", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
