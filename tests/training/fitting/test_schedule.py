import math
import time

import pytest

from training.config import TrainConfig
from training.schedule import Pace, rate_factor, size_at


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("cosine", {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        ("triangular", {0: 0, 0.1: 0.5, 0.2: 1, 0.4: 0.75, 1: 0}),
        ("constant", {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 1, 1: 1}),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_as_asked(
    schedule: str, rates: dict[float, float]
) -> None:
    config = TrainConfig(warmup=0.2, schedule=schedule)

    assert {share: rate_factor(config, share) for share in rates} == pytest.approx(rates, abs=1e-9)


def test_without_warm_up_the_rate_starts_at_its_peak() -> None:
    assert rate_factor(TrainConfig(warmup=0.0), 0.0) == 1


def test_images_grow_to_their_whole_size() -> None:
    config = TrainConfig(architecture="small", start_scale=0.5, image_size=(64, 48))

    sizes = [size_at(config, share / 100) for share in range(101)]

    assert sizes[0] == (32, 24)
    assert sizes[70:] == [(64, 48)] * 31
    assert sizes == sorted(sizes)
    assert all(height % 4 == width % 4 == 0 for height, width in sizes)


def test_a_whole_size_is_the_size_that_was_asked_for() -> None:
    config = TrainConfig(architecture="small", image_size=(33, 35))

    assert {size_at(config, share / 10) for share in range(11)} == {(33, 35)}


def test_without_a_budget_steps_alone_count() -> None:
    pace = Pace(steps=8, seconds=math.inf, started=-1e9)

    assert [pace.share(step) for step in (0, 2, 8, 9)] == [0, 0.25, 1, 1]


def test_with_a_budget_the_clock_ends_the_run() -> None:
    pace = Pace(steps=1000, seconds=10, started=time.monotonic() - 5)

    assert pace.share(1) == pytest.approx(0.5, abs=0.05)
    assert pace.share(900) == 0.9
    assert Pace(1000, 10, time.monotonic() - 11).share(1) == 1
