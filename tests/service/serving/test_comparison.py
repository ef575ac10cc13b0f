"""Two answers to one image, compared by the names of labels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from service.serving.comparison import Comparison


def row(*probabilities: float) -> NDArray[np.float32]:
    return np.array(probabilities, np.float32)


def test_answers_are_compared_by_the_names_of_labels() -> None:
    mine, others = row(0.6, 0.3, 0.1), row(0.2, 0.1, 0.7)
    same = Comparison.of(mine, ("a", "b", "c"), mine, ("a", "b", "c"))
    assert (same.agrees, same.difference) == (True, 0)
    turned = Comparison.of(mine, ("a", "b", "c"), others, ("a", "b", "c"))
    assert not turned.agrees
    assert (turned.first, turned.second) == (("a", float(mine[0])), ("c", float(others[2])))
    assert turned.difference == pytest.approx(0.6)
    renamed = Comparison.of(mine, ("a", "b", "c"), others, ("b", "c", "a"))
    assert renamed.agrees
    assert renamed.difference == pytest.approx(0.1)


def test_labels_that_one_version_does_not_have() -> None:
    mine, others = row(0.6, 0.3, 0.1), row(0.9, 0.1)
    more = Comparison.of(mine, ("a", "b", "c"), others, ("new", "b"))
    assert not more.agrees
    assert more.difference == pytest.approx(0.2)  # of b alone
    assert Comparison.of(mine, ("a", "b", "c"), others, ("x", "y")).difference is None
