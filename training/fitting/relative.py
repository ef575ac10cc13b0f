"""Adam whose steps are in proportion to what they change, for filters that know something."""

from __future__ import annotations

import keras
from keras import ops

LEAST_SIZE = 1e-3  # else a filter of zeros would stay one


class RelativeAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam for filters [k, k, C, F]: the rate is a part of each filter's own size.

    A filter's size is its root mean square (N. Shazeer, M. Stern, Adafactor: Adaptive Learning
    Rates with Sublinear Memory Cost, 2018, section 8; there of a whole layer). So it does not
    matter how a norm's factor was shared out between filters when it was merged into them.
    """

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: float
    ) -> None:
        """Move one variable."""
        squares = ops.mean(ops.square(variable), axis=_inputs(variable.shape), keepdims=True)
        size = ops.maximum(ops.sqrt(squares), LEAST_SIZE)
        super().update_step(gradient, variable, learning_rate * size)


def _inputs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a filter's own values: [k, k, C, 1] is a filter for each channel."""
    return (0, 1, 3) if shape[3] == 1 else (0, 1, 2)
