"""docs/clients.md: the versions that it names are tested, and its lines for curl are answered."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.conftest import CLIENTS, MLSERVER, PERF_ANALYZER, run
from tests.server import ROOT, Server

pytestmark = pytest.mark.clients

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
LINES = re.findall(r"^(?:curl|printf) .+", PAGE.partition("\n## curl\n")[2], re.MULTILINE)


def test_versions_are_those_tested() -> None:
    tested = dict(pin.split("==") for pin in (*CLIENTS, *MLSERVER, *PERF_ANALYZER))
    del tested["pillow"]
    assert dict(re.findall(r"^\| `(\S+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)) == tested


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_for_curl_gets_the_answer_of_predict(
    default_server: Server,
    files: Sequence[Path],
    expected: NDArray[np.float64],
    line: str,
) -> None:
    """Whatever shape the answer has, the largest probability is in it."""
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: there is no curl")
    (cat,) = (file for file in files if file.name == "cat.jpg")
    assert "127.0.0.1:8000" in line
    command = line.replace("127.0.0.1:8000", f"127.0.0.1:{default_server.port}")
    answer = run("sh", "-c", command, folder=cat.parent)
    numbers = [float(number) for number in re.findall(r"\d\.\d{4,}", answer)]
    assert np.isclose(numbers, expected[files.index(cat)].max(), rtol=0, atol=1e-6).any(), answer
