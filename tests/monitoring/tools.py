"""Programs from outside that these tests need, and what a test does without them."""

import os
import shutil

import pytest

# In CI every one of them is there: a skip would be a gap that no one sees.
REQUIRED = os.environ.get("MONITORING_TESTS") == "required"


def find(name: str) -> str | None:
    """Where a program is."""
    # Debian keeps servers where only root's path looks.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def program(name: str, package: str, subject: str) -> str:
    """Where a program is; without it the test skips, or fails with MONITORING_TESTS=required.

    Args:
        name: the command.
        package: Debian's package that brings it.
        subject: what goes untested without it.
    """
    path = find(name)
    if path is None:
        reason = f"{subject.upper()} NOT TESTED: there is no {name} (Debian's package {package})"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return path
