"""Hugging Face's client: raw bytes, and JSON where it has parameters."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clients.conftest import Ask, assert_same
from tests.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


def test_labels_with_scores(
    default_server: Server, ask: Ask, expected: NDArray[np.float64], labels: Sequence[str]
) -> None:
    answers = ask("hugging_face.py", default_server)
    for found, best, row in zip(answers["all"], answers["best"], expected, strict=True):
        places = np.argsort(-row)[:5]
        assert [one["label"] for one in found] == [labels[i] for i in places]
        assert_same([one["score"] for one in found], row[places])
        assert best == found[0]
