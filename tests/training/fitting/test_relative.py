"""Steps in proportion to the filters that they change."""

import keras
import numpy as np

from training.fitting.relative import LEAST_SIZE, RelativeAdam

RATE = 0.01


def moved(shape: tuple[int, ...], sizes: np.ndarray) -> np.ndarray:
    """By how much one step moves filters of these sizes, which broadcast to `shape`."""
    rng = np.random.default_rng(0)
    before = (rng.choice([-1.0, 1.0], shape) * sizes).astype(np.float32)
    gradient = rng.normal(0, 1, shape).astype(np.float32)
    variable = keras.Variable(before)
    optimizer = RelativeAdam(RATE)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(np.abs(variable.numpy() - before))


def test_a_step_is_a_part_of_the_filter() -> None:
    sizes = np.array([0.1, 1.0, 30.0])

    steps = moved((3, 3, 5, 3), sizes)

    # Adam's first step is its rate, whatever the gradient.
    np.testing.assert_allclose(steps, np.broadcast_to(RATE * sizes, steps.shape), rtol=1e-3)


def test_a_depthwise_filter_belongs_to_its_channel() -> None:
    sizes = np.array([0.1, 1.0, 30.0])[:, None]

    steps = moved((3, 3, 3, 1), sizes)

    np.testing.assert_allclose(steps, np.broadcast_to(RATE * sizes, steps.shape), rtol=1e-3)


def test_a_filter_of_zeros_moves() -> None:
    assert (moved((1, 1, 2, 2), np.zeros(1)) > RATE * LEAST_SIZE / 2).all()
