import numpy as np
import pytest

from training.fitting.trial import Mirroring


def mirroring(*pairs: tuple[int, int]) -> Mirroring:
    """Of each label: lost, right."""
    lost, right = np.array(pairs).T
    return Mirroring(right, lost)


@pytest.mark.parametrize(
    "pairs",
    [
        [(5, 5), (0, 0)],
        [(31, 32), (30, 30)],  # hands
        [(0, 80)] * 9 + [(8, 8)],  # one label of ten
        [(30, 45)] * 10,  # all of them somewhat
    ],
)
def test_harm_beyond_chance_is_found(pairs: list[tuple[int, int]]) -> None:
    assert mirroring(*pairs).harms
    assert mirroring(*pairs).is_telling


@pytest.mark.parametrize(
    "pairs",
    [
        [(0, 0), (0, 0)],
        [(1, 1), (2, 2)],  # may be chance
        [(5, 14), (3, 9), (7, 27), (9, 41)],  # CIFAR-10 after a moment
        [(3, 3)] + [(1, 40)] * 99,  # among many labels one looks like that
    ],
)
def test_chance_is_no_harm(pairs: list[tuple[int, int]]) -> None:
    assert not mirroring(*pairs).harms


def test_few_right_answers_tell_nothing() -> None:
    assert not mirroring((0, 2), (0, 1)).is_telling
    assert mirroring((0, 20), (0, 10)).is_telling
