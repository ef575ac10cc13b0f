import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training.config import TrainConfig
from training.step import loss_of

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], np.float32))
TARGETS = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def losses(**options: Any) -> list[float]:
    config = dataclasses.replace(TrainConfig(), **options)
    found: list[float] = loss_of(config, tf.constant(TARGETS), tf.constant(LOGITS)).numpy().tolist()
    return found


def test_cross_entropy_is_the_logarithm_of_the_right_probability() -> None:
    assert losses() == pytest.approx([-np.log(0.7), -np.log(0.25)], rel=1e-5)


def test_squared_error_is_that_of_the_probabilities() -> None:
    expected = [0.3**2 + 0.2**2 + 0.1**2, 0.25**2 + 0.75**2 + 0.5**2]

    assert losses(loss="squared-error") == pytest.approx(expected, rel=1e-5)


def test_smoothing_spreads_some_of_the_target() -> None:
    smooth = np.array([0.8, 0.1, 0.1])

    assert losses(label_smoothing=0.3)[0] == pytest.approx(-(smooth * LOGITS[0]).sum(), rel=1e-5)
