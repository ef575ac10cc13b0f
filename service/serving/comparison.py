"""How alike two answers to one image are, of versions whose labels may differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Comparison(NamedTuple):
    """Two answers to one image.

    ``first`` and ``second``: the most probable label of each, and its probability. ``difference``:
    the largest difference of a probability, in 0..1, over the labels that both have; None if they
    have none in common.
    """

    first: tuple[str, float]
    second: tuple[str, float]
    difference: float | None

    @classmethod
    def of(
        cls,
        row: NDArray[np.float32],
        labels: Sequence[str],
        other_row: NDArray[np.float32],
        other_labels: Sequence[str],
    ) -> "Comparison":
        """Compare probabilities, float32 [labels] each, by the labels' names."""
        place, other_place = int(row.argmax()), int(other_row.argmax())
        return cls(
            (labels[place], float(row[place])),
            (other_labels[other_place], float(other_row[other_place])),
            _difference(row, labels, other_row, other_labels),
        )

    @property
    def agrees(self) -> bool:
        """Whether both name the same label."""
        return self.first[0] == self.second[0]


def _difference(
    row: NDArray[np.float32],
    labels: Sequence[str],
    other_row: NDArray[np.float32],
    other_labels: Sequence[str],
) -> float | None:
    if labels == other_labels:
        return float(np.abs(row - other_row).max())
    others = dict(zip(other_labels, other_row.tolist(), strict=True))
    mine = zip(labels, row.tolist(), strict=True)
    return max((abs(value - others[name]) for name, value in mine if name in others), default=None)
