"""CIFAR-10's test images as JPEG files, where they are at hand.

They are in a folder named by LABELSERVE_TEST_DATA, or in the project's archive.
"""

import os
import tarfile
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from tests.server import ROOT

IMAGES = 10_000
_ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"


def cifar_test_jpegs(number: int) -> Iterator[tuple[str, bytes]]:
    """Label and content of ``number`` of the 10,000, as many of each label; else the test skips."""
    every = IMAGES // number
    folder = os.environ.get("LABELSERVE_TEST_DATA")
    if folder and (paths := sorted(Path(folder).glob("**/test/*/*.jpg"))):
        return ((path.parent.name, path.read_bytes()) for path in paths[:IMAGES:every])
    if folder or not _ARCHIVE.exists():
        pytest.skip(
            "SKIPPED LOUDLY: no CIFAR-10 test images; set LABELSERVE_TEST_DATA to a folder with"
            " test/<label>/*.jpg to test on real photographs too"
        )
    return iter(_members()[::every])


@cache
def _members() -> list[tuple[str, bytes]]:
    """All 10,000: 10 MB, which take longer to unpack than to keep."""
    found = []
    with tarfile.open(_ARCHIVE) as tar:
        members = (m for m in tar if "/test/" in m.name and m.name.endswith(".jpg"))
        for member in islice(members, IMAGES):
            file = tar.extractfile(member)
            assert file is not None
            found.append((member.name.split("/")[-2], file.read()))
    return found
