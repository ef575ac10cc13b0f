"""What is said of shares and of ranks."""

import numpy as np
import pytest

from training.intervals import rank_area


def test_the_area_is_how_often_one_is_above_the_other() -> None:
    rng = np.random.default_rng(0)
    higher, lower = rng.integers(2, 9, 50) / 10, rng.integers(0, 7, 30) / 10
    pairs = [(a > b) + (a == b) / 2 for a in higher for b in lower]
    assert rank_area(higher, lower) == pytest.approx(np.mean(pairs))
    assert rank_area(lower, higher) == pytest.approx(1 - np.mean(pairs))
    assert rank_area(np.ones(3), np.zeros(2)) == 1
