"""How many requests are let in: a fixed number, or as many as are answered soon."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge

from service.serving.admission import WAIT_SECONDS, Admission
from service.serving.context import RequestContext
from service.serving.errors import Overloaded


def admission(limit: int, *, by_wait: bool) -> Admission:
    return Admission(limit, Gauge("in_flight", "", registry=CollectorRegistry()), by_wait=by_wait)


@dataclass
class Clock:
    """The time, as a test sets it: no hiccup of this machine is counted as a request's time."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("service.serving.admission.time", SimpleNamespace(monotonic=made))
    return made


def context() -> RequestContext:
    return RequestContext("id", "POST", 0.0, float("inf"))


def taking(seconds: float, admitted: Admission, clock: Clock, times: int = 1000) -> None:
    """Requests that took this long each, one after the other."""
    for _ in range(times):
        one = context()
        admitted.enter(one)
        clock.now += seconds
        admitted.leave(one)


def admits(admitted: Admission, at_most: int) -> int:
    """How many more are admitted."""
    for count in range(at_most):
        try:
            admitted.enter(context())
        except Overloaded:
            return count
    return at_most


@pytest.mark.parametrize("seconds", [0.001, 10.0])
def test_a_number_is_a_number(clock: Clock, seconds: float) -> None:
    fixed = admission(5, by_wait=False)
    taking(seconds, fixed, clock)
    assert admits(fixed, 10) == 5
    with pytest.raises(Overloaded, match="5 requests"):
        fixed.check()


@pytest.mark.parametrize(("seconds", "fit"), [(0.001, 1000), (0.01, 100), (0.1, 10), (10.0, 5)])
def test_as_many_as_are_answered_soon(clock: Clock, seconds: float, fit: int) -> None:
    bounded = admission(5, by_wait=True)
    taking(seconds * WAIT_SECONDS, bounded, clock)
    assert admits(bounded, 2000) == pytest.approx(fit, rel=0.05, abs=1)


def test_nothing_is_known_yet() -> None:
    assert admits(admission(5, by_wait=True), 10) == 5


def test_what_took_long_is_forgotten_and_one_outlier_changes_little(clock: Clock) -> None:
    bounded = admission(5, by_wait=True)
    taking(1.0, bounded, clock)
    taking(0.01, bounded, clock)
    taking(0.1, bounded, clock, times=1)
    assert admits(bounded, 2000) > 80


def test_company_counts(clock: Clock) -> None:
    """Ten together that took 0.1 s are answered one every 10 ms."""
    bounded = admission(10, by_wait=True)
    for _ in range(100):
        some = [context() for _ in range(10)]
        for one in some:
            bounded.enter(one)
        first, *others = some
        clock.now += 0.1
        bounded.leave(first)
        for one in others:  # says nothing of its own
            one.admitted = clock.now - 0.01 * (len(others) - others.index(one))
            bounded.leave(one)
    assert admits(bounded, 2000) == pytest.approx(100, rel=0.1)


def test_room_comes_back(clock: Clock) -> None:
    bounded = admission(1, by_wait=True)
    taking(10.0, bounded, clock)
    one = context()
    bounded.enter(one)
    assert admits(bounded, 1) == 0
    bounded.leave(one)
    assert admits(bounded, 1) == 1


def test_what_is_done_in_the_background_has_half_of_the_room(clock: Clock) -> None:
    bounded = admission(4, by_wait=True)
    taking(0.001, bounded, clock)
    explanations = [context(), context()]
    for one in explanations:
        bounded.enter(one, background=True)
    assert bounded.background == 2
    with pytest.raises(Overloaded, match="predictions come first"):
        bounded.check(background=True)
    assert admits(bounded, 1000) > 100  # which are answered soon all the same
    for one in explanations:
        bounded.leave(one)
    assert bounded.background == 0


def test_how_long_the_background_takes_says_nothing_of_waits(clock: Clock) -> None:
    bounded = admission(5, by_wait=True)
    taking(0.001, bounded, clock)
    for _ in range(100):
        one = context()
        bounded.enter(one, background=True)
        clock.now += 10.0
        bounded.leave(one)
    assert admits(bounded, 2000) == pytest.approx(1000, rel=0.05)
