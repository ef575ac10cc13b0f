"""Who has the network first: images that wait, or a turn of a background task."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import pytest
from numpy.typing import NDArray
from werkzeug.datastructures import Headers

from service.http.app import create_app
from service.http.current import service_of
from service.inference.classifier import Classifier, Outputs
from service.serving.batcher import TURN_SECONDS, Answer, Batcher
from service.serving.context import RequestContext
from service.serving.errors import ClientDisconnected
from service.serving.pipeline import PredictRequest, Task
from service.serving.responses import Response
from service.settings import Settings
from tests.server import eventually

IMAGE = np.zeros((8, 8, 3), np.uint8)


class Recorded(Classifier):
    """Writes down when it predicts."""

    def __init__(self, like: Classifier, order: list[str]) -> None:
        super().__init__(like._session, like.card)
        self._order = order

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        self._order.append("prediction")
        return super().run(images)


class Loop:
    """An event loop that makes one call at a time, when it is told to."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.calls.append(callback)

    call_soon_threadsafe = call_soon

    def run(self, times: int) -> None:
        for _ in range(times):
            self.calls.popleft()()


def context() -> RequestContext:
    return RequestContext("id", "POST", time.monotonic(), time.monotonic() + 60)


def request() -> PredictRequest:
    return PredictRequest(b"", Headers(), "", context())


@pytest.fixture
def order() -> list[str]:
    return []


@pytest.fixture
def classifier(tiny_classifier: Classifier, order: list[str]) -> Recorded:
    return Recorded(tiny_classifier, order)


@pytest.fixture
def batcher(classifier: Recorded) -> Batcher:
    return service_of(create_app(Settings(), classifier)).batcher


def test_on_an_event_loop(batcher: Batcher, classifier: Recorded, order: list[str]) -> None:
    loop, answers = Loop(), list[Answer]()
    task = Task((IMAGE,), classifier, lambda _: Response(200, {}, b""))
    with ThreadPoolExecutor(1) as threads:
        batcher.run_on(loop, threads)
        turn = threads.submit(batcher.between, lambda: order.append("turn"), context())
        assert eventually(lambda: loop.calls)
        loop.run(2)  # nothing has come
        batcher.submit(request(), lambda _: task, answers.append)  # just before the turn
        while loop.calls:
            loop.run(1)
        turn.result(30)
    assert order == ["prediction", "turn"]
    assert answers == [Response(200, {}, b"")]


def test_without_an_event_loop(
    batcher: Batcher, classifier: Recorded, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serving.batcher._PATIENCE_SECONDS", 60)
    task = Task((IMAGE,), classifier, lambda _: Response(200, {}, b""))
    with ThreadPoolExecutor(1) as threads:
        with batcher._counted():  # another thread is about to predict
            turn = threads.submit(batcher.between, lambda: order.append("turn"), context())
            time.sleep(0.05)
            batcher.answer(request(), lambda _: task)
        turn.result(30)
    assert order == ["prediction", "turn"]


class Noted(Classifier):
    """Writes down the thread that it predicts in, and how many images."""

    def __init__(self, like: Classifier, seconds: float) -> None:
        super().__init__(like._session, like.card)
        self.seconds_per_image = seconds
        self.runs: list[tuple[bool, int]] = []

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        on_loop = threading.current_thread() is threading.main_thread()
        self.runs.append((on_loop, len(images)))
        return super().run(images)


def test_a_slow_model_keeps_off_the_event_loop_and_a_fast_one_does_not(
    batcher: Batcher, tiny_classifier: Classifier
) -> None:
    """Both in one queue, the slow one in the middle of it."""
    fast, slow = Noted(tiny_classifier, TURN_SECONDS / 4), Noted(tiny_classifier, 2 * TURN_SECONDS)
    loop, answers = Loop(), list[Answer]()

    def read(classifier: Classifier, images: int) -> Callable[[PredictRequest], Task]:
        return lambda _: Task([IMAGE] * images, classifier, lambda _: Response(200, {}, b""))

    with ThreadPoolExecutor(1) as threads:
        batcher.run_on(loop, threads)
        for classifier, images in ((fast, 6), (slow, 2), (fast, 1)):
            batcher.submit(request(), read(classifier, images), answers.append)

        def answered() -> bool:
            loop.run(len(loop.calls))
            return len(answers) == 3

        assert eventually(answered)
        batcher.stop()
    assert fast.runs[:2] == [(True, 4), (True, 2)]  # no more than fit into a turn
    assert slow.runs == [(False, 1), (False, 1)]


def test_a_slow_image_behind_one_that_another_thread_takes_keeps_off_the_event_loop(
    batcher: Batcher, tiny_classifier: Classifier
) -> None:
    """The network's thread takes while the loop looks at what is next."""
    slow = Noted(tiny_classifier, 2 * TURN_SECONDS)
    loop, answers = Loop(), list[Answer]()

    with ThreadPoolExecutor(1) as threads, ThreadPoolExecutor(1) as network:

        class Looked(Noted):
            """Has the other thread take a batch as soon as the loop has looked at it."""

            @property
            def seconds_per_image(self) -> float:
                if not taken and threading.current_thread() is threading.main_thread():
                    taken.append(network.submit(batcher._run_batch))
                    wait(taken, 0.2)  # or until the loop has taken its own
                return TURN_SECONDS / 4

            @seconds_per_image.setter
            def seconds_per_image(self, _seconds: float) -> None: ...

        taken: list[Future[object]] = []
        fast = Looked(tiny_classifier, 0)
        batcher.run_on(loop, threads)
        for classifier in (fast, slow):
            task = Task([IMAGE], classifier, lambda _: Response(200, {}, b""))
            batcher.submit(request(), lambda _, task=task: task, answers.append)  # type: ignore[misc]
        loop.run(1)
        assert eventually(lambda: fast.runs and slow.runs)
        batcher.stop()
    assert slow.runs == [(False, 1)]


def test_a_turn_comes_all_the_same_while_no_image_waits(batcher: Batcher) -> None:
    with batcher._counted():
        assert batcher.between(lambda: "turn", context()) == "turn"


def test_nobody_waits_for_a_loop_that_has_ended(batcher: Batcher) -> None:
    wanted = context()
    with ThreadPoolExecutor(1) as threads:
        batcher.run_on(Loop(), threads)
        turn = threads.submit(batcher.between, lambda: None, wanted)
        wanted.abandoned = True
        with pytest.raises(ClientDisconnected):
            turn.result(30)
