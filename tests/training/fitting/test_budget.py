import math
import time

import pytest

from training.fitting.budget import Pace


def test_without_a_budget_steps_alone_count() -> None:
    pace = Pace(steps=8, seconds=math.inf, started=-1e9)

    assert [pace.share(step) for step in (0, 2, 8, 9)] == [0, 0.25, 1, 1]


def test_with_a_budget_the_clock_ends_the_run() -> None:
    pace = Pace(steps=1000, seconds=10, started=time.monotonic() - 5)

    assert pace.share(1) == pytest.approx(0.5, abs=0.05)
    assert pace.share(900) == 0.9
    assert Pace(1000, 10, time.monotonic() - 11).share(1) == 1
