"""The shadow: what is asked of another version, when, what is kept for it, and what is dropped."""

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from werkzeug.datastructures import Headers

from service.inference.classifier import Classifier
from service.inference.errors import BrokenImage
from service.runtime.metrics import Metrics
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving.background import Background
from service.serving.context import RequestContext
from service.serving.errors import DeadlineExceeded, UnknownModel
from service.serving.models.models import Models
from service.serving.pipeline import (
    Answered,
    BackgroundTask,
    Decoded,
    Outcome,
    Pipeline,
    PredictRequest,
    Source,
    Task,
)
from service.serving.responses import Response
from service.serving.served import Asked, Served
from service.serving.service import Service
from service.serving.shadow import REQUESTS, Shadow
from service.settings import Settings
from tests.server import eventually
from tests.tiny_model import make_card, make_graph, write_model

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
DONE = Response(200, {}, b"done")


def row(*probabilities: float) -> NDArray[np.float32]:
    return np.array(probabilities, np.float32)


class Versions(Models):
    """Version 1 answers, and the label ``canary`` leads where it is told to."""

    def __init__(self, canary: Served | None) -> None:
        self.canary = canary

    def find(self, asked: Asked) -> Served:
        if self.canary is None or asked != Asked("tiny", "canary"):
            raise UnknownModel(f"no version {asked}")
        return self.canary


class Network:
    """One that is free, or that nobody gets a turn at; it notes the threads that had one."""

    def __init__(self) -> None:
        self.predicted = 0
        self.busy = False
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.threads: list[str] = []

    def between(self, call: Callable[[], Any], _context: RequestContext) -> Any:
        self.threads.append(threading.current_thread().name)
        assert self.may_go_on.wait(30)
        if self.busy:
            raise DeadlineExceeded("no turn")
        return call()


class Files(Pipeline):
    """Decodes what a test's file says: all pixels of the value of its first byte."""

    def __init__(self) -> None:
        self.decoded_files: list[bytes] = []

    def decoded(self, source: Source, classifier: Classifier, context: RequestContext) -> Decoded:
        if isinstance(source, np.ndarray):
            return super().decoded(source, classifier, context)
        assert isinstance(source, bytes)
        self.decoded_files.append(source)
        pixels = np.full((*classifier.input_size, 3), (source[0], 0, 0), np.uint8)
        return Decoded(pixels, classifier, context, time.monotonic())


class Rig:
    """A shadow with all that it needs, and requests for it."""

    def __init__(self, first: Classifier, canary: Classifier | None, **settings: Any) -> None:
        self.served = Served("tiny", 1, ("stable",), first)
        self.versions = Versions(None if canary is None else Served("tiny", 2, ("canary",), canary))
        self.network, self.files = Network(), Files()
        self.metrics = Metrics(SharedState(1), 0)
        settings = {"shadow": "canary", "shadow_percent": 100, **settings}
        background = Background(self.files, self.network)
        self.shadow = Shadow(
            self.versions, Settings(**settings), self.files, background, self.metrics
        )

    def answer(
        self,
        images: Sequence[Source] = (RED,),
        rows: Sequence[NDArray[np.float32] | Exception] = (row(1, 0, 0),),
    ) -> RequestContext:
        """Answer a request; its context, whose answer has not gone yet."""
        now = time.monotonic()
        context = RequestContext("an-id", "POST", now, now + 60, served=self.served)
        task = Task(images, self.served.classifier, lambda _: DONE)
        read = self.shadow.watch(lambda _: task)
        watched = read(PredictRequest(b"", Headers(), "", context))
        assert isinstance(watched, Task)
        outcomes: list[Outcome] = [
            one if isinstance(one, Exception) else Answered(one, None, self._kept(image, context))
            for one, image in zip(rows, images, strict=True)
        ]
        assert watched.encode(outcomes) == DONE
        return context

    @staticmethod
    def _kept(image: Source, context: RequestContext) -> NDArray[np.uint8] | None:
        if not context.keeps_pixels:
            return None
        return RED if isinstance(image, bytes) else np.asarray(image)

    def gone(self, *contexts: RequestContext) -> None:
        """The answers have gone."""
        for context in contexts:
            assert context.afterwards is not None
            context.afterwards()

    def results(self) -> dict[str, float]:
        """How many images have come out how, without those of which there are none."""
        text = self.metrics.to_text().decode()
        found = re.findall(r'labelserve_shadow_total\{result="(\w+)"\} (\S+)', text)
        return {result: float(times) for result, times in found if float(times)}

    def differences(self) -> float:
        return float(
            re.findall(r"shadow_difference_count (\S+)", self.metrics.to_text().decode())[0]
        )


@pytest.fixture
def other(tmp_path: Path) -> Classifier:
    """Calls red what is green, as far as it can tell."""
    card = make_card(("green", "red", "blue"), version="test-2")
    return Classifier.load(write_model(tmp_path / "other.onnx", card))


@pytest.fixture
def larger(tmp_path: Path) -> Classifier:
    """Says what the tiny model says, of larger images."""
    card, graph = make_card(size=(16, 16)), make_graph(size=(16, 16))
    return Classifier.load(write_model(tmp_path / "larger.onnx", card, graph))


@pytest.fixture
def cropping(tmp_path: Path) -> Classifier:
    """Says what the tiny model says, of another part of each image."""
    return Classifier.load(write_model(tmp_path / "cropping.onnx", make_card(resize="crop")))


# ---- asking --------------------------------------------------------------------------------------


def test_it_is_asked_when_the_answer_has_gone_and_by_a_thread_of_its_own(
    tiny_classifier: Classifier, other: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig = Rig(tiny_classifier, other)
    context = rig.answer()
    time.sleep(0.05)
    assert rig.network.threads == []
    rig.gone(context)
    assert eventually(lambda: rig.results() == {"other": 1})
    assert [name.partition("_")[0] for name in rig.network.threads] == ["shadow"]
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert record.getMessage() == "the shadow answers otherwise"
    assert min(fields.pop("shadow_probability"), fields.pop("difference")) > 0.99
    assert fields == {
        "request_id": "an-id",
        "model": "tiny",
        "model_version": 1,
        "shadow_version": 2,
        "label": "red",
        "probability": 1,
        "shadow_label": "green",
    }


def test_an_agreement_is_counted_and_not_logged(
    tiny_classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tiny_classifier, tiny_classifier)
    rig.gone(rig.answer())
    assert eventually(lambda: rig.results() == {"same": 1})
    assert rig.differences() == 1
    assert not caplog.records


def test_each_answered_image_of_a_request(
    tiny_classifier: Classifier, other: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig = Rig(tiny_classifier, other)
    rows = (row(0, 1, 0), BrokenImage("broken"), row(1, 0, 0))
    rig.gone(rig.answer((RED, b"broken", RED), rows))
    assert eventually(lambda: rig.results() == {"same": 1, "other": 1})
    assert [record.__dict__["fields"]["image"] for record in caplog.records] == [3]


def test_nobody_is_asked_about(tiny_classifier: Classifier, other: Classifier) -> None:
    """Without the setting, while the label leads nowhere, or to the version that answers."""
    off, nowhere, itself = (
        Rig(tiny_classifier, other, shadow=None),
        Rig(tiny_classifier, None),
        Rig(tiny_classifier, other),
    )
    itself.versions.canary = itself.served
    for rig in (off, nowhere, itself):
        context = rig.answer()
        assert context.afterwards is None
        assert not context.keeps_pixels
    rig = Rig(tiny_classifier, other)
    explanation = BackgroundTask(RED, tiny_classifier, lambda *_: DONE)
    request = PredictRequest(b"", Headers(), "", rig.answer())
    assert rig.shadow.watch(lambda _: explanation)(request) is explanation


def test_a_share_is_drawn(tiny_classifier: Classifier, other: Classifier) -> None:
    rig = Rig(tiny_classifier, other, shadow_percent=30)
    asked = 0
    for _ in range(1000):
        context = rig.answer()
        if context.afterwards is not None:
            asked += 1
            rig.gone(context)
    assert 220 < asked < 380  # five standard deviations


# ---- other pixels --------------------------------------------------------------------------------


def test_a_version_of_another_size_gets_the_file_decoded_again(
    tiny_classifier: Classifier, larger: Classifier
) -> None:
    rig = Rig(tiny_classifier, larger)
    context = rig.answer((b"\xff a red file", b"\x00 a black file"), (row(1, 0, 0),) * 2)
    assert not context.keeps_pixels
    assert rig.files.decoded_files == []
    rig.gone(context)
    assert eventually(lambda: sum(rig.results().values()) == 2)
    assert rig.files.decoded_files == [b"\xff a red file", b"\x00 a black file"]


def test_a_version_of_the_same_size_gets_the_pixels(
    tiny_classifier: Classifier, other: Classifier
) -> None:
    rig = Rig(tiny_classifier, other)
    rig.gone(rig.answer((b"\xff a red file",)))
    assert eventually(lambda: rig.results() == {"other": 1})
    assert rig.files.decoded_files == []


def test_pixels_of_another_size_cannot_be_asked_about(
    tiny_classifier: Classifier, larger: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tiny_classifier, larger)
    rig.gone(rig.answer((RED,)))
    assert eventually(lambda: rig.results() == {"failed": 1})
    (record,) = caplog.records
    assert "another size" in record.getMessage()


def test_pixels_that_fit_need_no_file(tiny_classifier: Classifier, cropping: Classifier) -> None:
    rig = Rig(tiny_classifier, cropping)
    rig.gone(rig.answer((RED, b"\xff a red file"), (row(1, 0, 0),) * 2))
    assert eventually(lambda: rig.results() == {"same": 2})
    assert rig.files.decoded_files == [b"\xff a red file"]


@pytest.mark.parametrize("version", ["cropping", "larger"])
def test_pixels_are_kept_without_the_body_that_they_are_from(
    tiny_classifier: Classifier, version: str, request: pytest.FixtureRequest
) -> None:
    rig = Rig(tiny_classifier, request.getfixturevalue(version))
    body = np.stack([RED] * 100)
    freed = weakref.ref(body)
    context = rig.answer((body[0],))
    del body
    gc.collect()
    assert context.afterwards is not None
    assert freed() is None


def test_an_answer_keeps_pixels_without_the_body_that_they_are_from(
    tiny_classifier: Classifier,
) -> None:
    now = time.monotonic()
    context = RequestContext("an-id", "POST", now, now + 60, keeps_pixels=True)
    body = np.stack([RED] * 100)
    decoded = Decoded(body[0], tiny_classifier, context, now)
    (outcome,) = Pipeline(Settings(), 1).predict([decoded])
    assert isinstance(outcome, Answered)
    assert outcome.pixels is not None
    assert np.array_equal(outcome.pixels, RED)
    assert not np.shares_memory(outcome.pixels, body)


def test_a_version_without_an_answer(
    tiny_classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    class Nan(Classifier):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().predict(images) * np.float32(np.nan)

    rig = Rig(tiny_classifier, Nan(tiny_classifier._session, tiny_classifier.card))
    rig.gone(rig.answer())
    assert eventually(lambda: rig.results() == {"failed": 1})
    assert rig.differences() == 0
    (record,) = caplog.records  # the client has its answer: nothing is wrong with that
    assert record.getMessage().startswith("the shadow failed: the model answered")


# ---- what is kept, and dropped -------------------------------------------------------------------


def test_an_image_without_a_turn_is_dropped(tiny_classifier: Classifier, other: Classifier) -> None:
    rig = Rig(tiny_classifier, other)
    rig.network.busy = True
    rig.gone(rig.answer((RED, RED), (row(1, 0, 0),) * 2))
    assert eventually(lambda: rig.results() == {"dropped": 2})
    rig.network.busy = False
    rig.gone(rig.answer())
    assert eventually(lambda: rig.results() == {"dropped": 2, "other": 1})


@pytest.mark.parametrize(
    ("same_size", "room"), [(True, 2 * RED.nbytes), (False, 20)], ids=["pixels", "files"]
)
def test_what_is_kept_has_a_bound(
    tiny_classifier: Classifier, other: Classifier, larger: Classifier, same_size: bool, room: int
) -> None:
    """Room for two, from when they are read to when they were asked about."""
    rig = Rig(tiny_classifier, other if same_size else larger, max_image_bytes=room)
    file = (b"\xff" * 10,)
    contexts = [rig.answer(file) for _ in range(3)]
    assert [context.keeps_pixels for context in contexts] == [same_size, same_size, False]
    rig.network.may_go_on.clear()
    rig.gone(*contexts)
    assert eventually(lambda: rig.results() == {"dropped": 1})
    late = rig.answer(file)
    rig.network.may_go_on.set()
    assert eventually(lambda: sum(rig.results().values()) == 3)
    rig.gone(late)
    assert eventually(lambda: rig.results()["dropped"] == 2)
    rig.gone(rig.answer(file))
    assert eventually(lambda: sum(rig.results().values()) == 5)
    assert rig.results()["dropped"] == 2


def test_pixels_that_fit_take_room(tiny_classifier: Classifier, cropping: Classifier) -> None:
    rig = Rig(tiny_classifier, cropping, max_image_bytes=RED.nbytes)
    rig.gone(rig.answer(), rig.answer())
    assert eventually(lambda: rig.results() == {"same": 1, "dropped": 1})


def test_so_many_requests_are_kept(tiny_classifier: Classifier, other: Classifier) -> None:
    rig = Rig(tiny_classifier, other)
    contexts = [rig.answer() for _ in range(REQUESTS + 1)]
    assert [context.keeps_pixels for context in contexts] == [True] * REQUESTS + [False]
    rig.gone(*contexts)
    assert eventually(lambda: rig.results() == {"other": REQUESTS, "dropped": 1})


def test_a_request_that_failed_gives_its_room_back(
    tiny_classifier: Classifier, other: Classifier
) -> None:
    rig = Rig(tiny_classifier, other, max_image_bytes=RED.nbytes)
    rig.gone(rig.answer((b"broken",), (BrokenImage("broken"),)))
    assert rig.results() == {}
    rig.gone(rig.answer())
    assert eventually(lambda: rig.results() == {"other": 1})


def test_a_stop_ends_what_is_asked(tiny_classifier: Classifier, other: Classifier) -> None:
    rig = Rig(tiny_classifier, other)
    rig.network.may_go_on.clear()
    rig.gone(rig.answer(), rig.answer())
    assert eventually(lambda: rig.network.threads)
    rig.shadow.stop()
    rig.network.may_go_on.set()
    assert eventually(lambda: sum(rig.results().values()) == 1)
    rig.gone(rig.answer())  # nobody is told of an error
    time.sleep(0.05)
    assert len(rig.network.threads) == 1


def test_a_shadow_that_compares_nothing_is_told_at_the_start(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One file has no versions; and a label may lead to what answers anyway."""

    def told(model: Path, **settings: Any) -> list[str]:
        caplog.clear()
        Service.build(Settings(model=model, **settings), slot=WorkerSlot(SharedState(1), 0))
        return [one.getMessage() for one in caplog.records if "SHADOW" in one.getMessage()]

    assert told(tiny_model) == []
    (line,) = told(tiny_model, shadow="canary")
    assert line.startswith("LABELSERVE_SHADOW=canary names no version beside the one that answers")
    for number in "12":
        (tmp_path / number).mkdir()
        write_model(tmp_path / number / "m.onnx", make_card())
    assert len(told(tmp_path, shadow="2")) == 1  # the highest answers
    assert told(tmp_path, shadow="1") == []
