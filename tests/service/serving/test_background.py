"""Tasks behind predictions: their turns, their pauses, and their end."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.errors import InvalidAnswer
from service.inference.explanation import Predict
from service.serving.background import PAUSE, TURN_SECONDS, Background
from service.serving.context import RequestContext
from service.serving.errors import ClientDisconnected, DeadlineExceeded
from service.serving.pipeline import BackgroundTask, Pipeline
from service.serving.responses import Response

IMAGE = np.zeros((8, 8, 3), np.uint8)
DONE = Response(200, {}, b"done")


class Network:
    """One that makes each call at once, and predicts for others meanwhile, if it is busy."""

    def __init__(self, *, busy: bool = False) -> None:
        self.predicted = 0
        self._busy = busy
        self.turns = 0

    def between(self, call: Callable[[], Any], _context: RequestContext) -> Any:
        self.turns += 1
        self.predicted += self._busy
        return call()


class Timed(Classifier):
    """Takes a while for each image."""

    def __init__(self, like: Classifier, seconds: float) -> None:
        super().__init__(like._session, like.card)
        self.seconds_per_image = seconds
        self.batches: list[int] = []

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        time.sleep(self.seconds_per_image * len(images))
        return super().predict(images)


class NoPipeline(Pipeline):
    """Only images that are pixels already."""

    def __init__(self) -> None:
        pass


def context(seconds: float = 60) -> RequestContext:
    now = time.monotonic()
    return RequestContext("id", "POST", now, now + seconds)


def task(
    classifier: Classifier, images: int, answer: Callable[[Predict], None] = lambda _: None
) -> BackgroundTask:
    def work(pixels: NDArray[np.uint8], predict: Predict) -> Response:
        answer(predict)
        assert len(predict(np.stack([pixels] * images))) == images
        return DONE

    return BackgroundTask(IMAGE, classifier, work)


@pytest.mark.parametrize(
    ("seconds", "batches"),
    [(TURN_SECONDS / 4.5, [4, 4, 2]), (2 * TURN_SECONDS, [1] * 10)],
    ids=["quick", "slow"],
)
def test_turns_are_short(tiny_classifier: Classifier, seconds: float, batches: list[int]) -> None:
    classifier, network = Timed(tiny_classifier, seconds), Network()
    assert Background(NoPipeline(), network).answer(task(classifier, 10), context()) == DONE
    assert classifier.batches == batches
    assert network.turns == len(batches)


@pytest.mark.parametrize("busy", [False, True])
def test_a_pause_follows_a_turn_while_predictions_come(
    tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    paused: list[float] = []
    classifier = Timed(tiny_classifier, 0.01)
    monkeypatch.setattr("service.serving.background.time.sleep", _recording(paused, time.sleep))
    Background(NoPipeline(), Network(busy=busy)).answer(task(classifier, 3), context())
    pauses = [seconds for seconds in paused if seconds != 0.01]
    assert len(pauses) == (3 if busy else 0)
    assert all(seconds >= PAUSE * 0.01 for seconds in pauses)


def _recording(into: list[float], sleep: Callable[[float], None]) -> Callable[[float], None]:
    def recorded(seconds: float) -> None:
        into.append(seconds)
        sleep(min(seconds, 0.01))

    return recorded


def test_one_task_at_a_time(tiny_classifier: Classifier) -> None:
    behind, running = Background(NoPipeline(), Network()), 0
    seen: list[int] = []

    def watched(_predict: Predict) -> None:
        nonlocal running
        running += 1
        seen.append(running)
        time.sleep(0.02)
        running -= 1

    work = [
        threading.Thread(target=behind.answer, args=(task(tiny_classifier, 1, watched), context()))
        for _ in range(3)
    ]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert seen == [1, 1, 1]


def test_it_ends_between_turns(tiny_classifier: Classifier) -> None:
    behind, classifier = Background(NoPipeline(), Network()), Timed(tiny_classifier, 0.01)
    wanted = context()

    def leaves(predict: Predict) -> None:
        predict(IMAGE[None])
        wanted.abandoned = True

    with pytest.raises(ClientDisconnected):
        behind.answer(task(classifier, 100, leaves), wanted)
    assert classifier.batches == [1]
    with pytest.raises(DeadlineExceeded):
        behind.answer(task(classifier, 100), context(0.1))
    assert len(classifier.batches) < 15
    assert behind.answer(task(classifier, 1), context()) == DONE  # nothing is left locked


def test_who_waits_for_another_is_told_of_the_deadline(tiny_classifier: Classifier) -> None:
    behind = Background(NoPipeline(), Network())

    def waits(_predict: Predict) -> None:
        with pytest.raises(DeadlineExceeded):
            behind.answer(task(tiny_classifier, 1), context(0.05))

    behind.answer(task(tiny_classifier, 1, waits), context())


def test_an_answer_that_is_none(
    tiny_classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    class Nan(Timed):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().predict(images) * np.float32(np.nan)

    behind = Background(NoPipeline(), Network())
    with pytest.raises(InvalidAnswer):
        behind.answer(task(Nan(tiny_classifier, 0.0), 1), context())
    (record,) = caplog.records
    assert record.__dict__["fields"] == {"request_id": "id", "version": "test-1"}
    with pytest.raises(InvalidAnswer):
        behind.ask(Nan(tiny_classifier, 0.0), IMAGE, context())
    assert len(caplog.records) == 1  # who asks without a client says so in its own way
