"""What is counted, against counting by hand."""

from pathlib import Path

import numpy as np
import pytest

from training.export.answers import Answers
from training.intervals import share_interval
from training.report import counting

# shown, said, with what probability
ROWS = [(0, 0, 0.9), (0, 1, 0.8), (1, 1, 0.7), (1, 1, 0.6), (1, 0, 0.95), (2, 1, 0.5)]


def answers(rows: list[tuple[int, int, float]], labels: str = "abcd") -> Answers:
    probabilities = np.zeros((len(rows), len(labels)))
    for row, (_, said, p) in zip(probabilities, rows, strict=True):
        row[:] = (1 - p) / (len(labels) - 1)
        row[said] = p
    paths = tuple(Path("photos") / labels[shown] / f"{i}.png" for i, (shown, *_) in enumerate(rows))
    targets = np.array([shown for shown, *_ in rows])
    return Answers(
        tuple(labels), Path("photos"), False, paths, targets, probabilities.astype(np.float32), ()
    )


def test_confusion_counts_what_was_shown_in_rows() -> None:
    assert counting.confusion(answers(ROWS)).tolist() == [
        [1, 1, 0, 0],
        [1, 2, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]


def test_the_surest_mistakes_come_first() -> None:
    found = counting.confident_mistakes(answers(ROWS), 2)

    assert found == [4, 1]
    assert answers(ROWS).name(4) == "b/4.png"


def test_frequent_confusions_leave_out_what_is_right() -> None:
    rows = [*ROWS, (2, 1, 0.4)]

    found = counting.frequent_confusions(counting.confusion(answers(rows)), 3)

    assert found == [(2, 1, 2), (0, 1, 1), (1, 0, 1)]


def test_a_typical_success_is_its_labels_median() -> None:
    rows = [(0, 0, 0.9), (0, 0, 0.6), (0, 0, 0.7), (1, 0, 0.8), (2, 2, 0.9)]

    assert counting.typical_successes(answers(rows), 5) == [2, 4]
    assert counting.typical_successes(answers(rows), 1) == [2]


def test_wilsons_interval() -> None:
    # Published worked example: 81 of 263 gives 0.2553 to 0.3662 (Newcombe, 1998).
    low, high = share_interval(81, 263)

    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert share_interval(10, 10)[1] == pytest.approx(1)


def test_models_are_compared_image_by_image() -> None:
    # Published worked example: of 1,600 people 944 and then 880 approved, 150 changed to no and 86
    # to yes; the difference is 0.021 to 0.059 (Agresti, Categorical Data Analysis, 10.1.1).
    said = [(0, 0)] * 794 + [(1, 0)] * 150 + [(0, 1)] * 86 + [(1, 1)] * 570
    later, earlier = (answers([(0, pair[i], 0.9) for pair in said]) for i in (0, 1))

    found = counting.paired(later, earlier)

    assert (found.gained, found.lost) == (150, 86)
    assert [round(end, 3) for end in found.interval] == [0.021, 0.059]


def test_an_image_that_one_model_could_not_read_is_not_compared() -> None:
    fewer = answers(ROWS[:-1])

    found = counting.paired(answers(ROWS), fewer)

    assert (found.gained, found.lost) == (0, 0)
    assert counting.paired(fewer, answers(ROWS)) == found
