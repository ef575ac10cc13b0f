"""The shadow of a running service: every wire format, both workers, and no answer that differs."""

import base64
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from werkzeug.test import EnvironBuilder

from service.http.app import create_app
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving.shadow import REQUESTS, Shadow
from service.settings import Settings
from tests.images import encode, photograph
from tests.server import WORKERS, Server, Wire, eventually, multipart, raw_request, start_server
from tests.service.http.open_inference import TENSOR, as_json, pixels
from tests.service.server.in_process import serving
from tests.tiny_model import make_card, make_graph, write_model

RED = encode(Image.new("RGB", (9, 7), (255, 0, 0)), "PNG")
BLUE = encode(Image.new("RGB", (9, 7), (0, 0, 255)), "PNG")
LARGE = encode(photograph(1, 640, 427), "JPEG")
TEXT = base64.b64encode(RED).decode()
RESULTS = ("same", "other", "dropped", "failed")

# The second version calls red what is green; the third takes larger images.
OTHERWISE, LARGER = 2, 3


def put_label(folder: Path, label: str, number: int) -> None:
    beside = folder / f"{label}.new"
    beside.symlink_to(str(number))
    beside.replace(folder / label)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    for number in (1, OTHERWISE, LARGER):
        (folder / str(number)).mkdir()
    write_model(folder / "1" / "m.onnx", make_card())
    turned = make_card(("green", "red", "blue"), version="test-2")
    write_model(folder / str(OTHERWISE) / "m.onnx", turned)
    larger = make_card(size=(16, 16), version="test-3")
    write_model(folder / str(LARGER) / "m.onnx", larger, make_graph(size=(16, 16)))
    put_label(folder, "stable", 1)
    return folder


@pytest.fixture(scope="module", params=WORKERS)
def shadowed(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    put_label(folder, "canary", OTHERWISE)
    settings = {"worker": request.param, "shadow": "canary", "shadow_percent": 100, "name": "tiny"}
    with start_server(folder, model_poll_seconds=0.3, **settings) as running:
        yield running


def results(server: Server) -> dict[str, int]:
    """Images so far, by what came of asking about them."""
    metrics, name = server.metrics(), "labelserve_shadow_total"
    return {result: int(metrics[name, frozenset({("result", result)})]) for result in RESULTS}


def grown(server: Server, before: Mapping[str, int]) -> dict[str, int]:
    """The same since then, without those of which there are no more."""
    now = results(server)
    return {result: more for result in RESULTS if (more := now[result] - before[result])}


def asked(server: Server, before: Mapping[str, int], expected: Mapping[str, int]) -> None:
    assert eventually(lambda: grown(server, before) == expected), grown(server, before)


def json_of(content: object) -> tuple[bytes, dict[str, str]]:
    return json.dumps(content).encode(), {"Content-Type": "application/json"}


FORMS = [("images", "a.png", RED), ("images", "b", b"no image"), ("images", "c.png", BLUE)]


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        ("/predict", RED, {}, {"other": 1}),
        ("/predict", BLUE, {}, {"same": 1}),
        ("/predict", *json_of({"image": TEXT}), {"other": 1}),
        ("/predict", *multipart(("image", "a.png", RED)), {"other": 1}),
        ("/predict", LARGE, {}, None),
        ("/predict/batch", *multipart(*FORMS), {"other": 1, "same": 1}),
        ("/invocations", RED, {}, {"other": 1}),
        ("/huggingface", *json_of({"inputs": TEXT}), {"other": 1}),
        ("/v1/models/tiny:predict", *json_of({"instances": [{"b64": TEXT}] * 20}), {"other": 20}),
        ("/v1/models/tiny:predict", *json_of({"instances": TENSOR.tolist()}), None),
        ("/v2/models/tiny/infer", as_json(pixels(TENSOR.ravel().tolist())), {}, None),
    ],
    ids=[
        "raw-red",
        "raw-blue",
        "json",
        "form",
        "large",
        "batch",
        "sagemaker",
        "hugging-face",
        "v1-files",
        "v1-pixels",
        "v2",
    ],
)
def test_every_wire_format(
    shadowed: Server,
    path: str,
    body: bytes,
    headers: dict[str, str],
    expected: dict[str, int] | None,
) -> None:
    before, predicted = results(shadowed), shadowed.metric("labelserve_top_probability_count")
    answer = shadowed.post(path, body, headers)
    assert answer.status == 200, answer.body
    assert answer.headers["X-Model-Version"] == "1"
    images = shadowed.metric("labelserve_top_probability_count") - predicted
    if expected is None:
        assert eventually(lambda: sum(grown(shadowed, before).values()) == images)
        assert set(grown(shadowed, before)) <= {"same", "other"}
    else:
        assert images == sum(expected.values())
        asked(shadowed, before, expected)
    # It counts nowhere else.
    assert shadowed.metric("labelserve_top_probability_count") - predicted == images


def test_a_disagreement_has_a_line(shadowed: Server) -> None:
    before = results(shadowed)
    identity = {"X-Request-ID": "a-red-one"}
    assert shadowed.post("/predict", RED, identity).status == 200
    asked(shadowed, before, {"other": 1})
    lines = [one for one in shadowed.records if one.get("request_id") == "a-red-one"]
    (line,) = [one for one in lines if one["logger"] == "labelserve.shadow"]
    assert (line["label"], line["shadow_label"]) == ("red", "green")
    assert (line["model"], line["model_version"], line["shadow_version"]) == ("tiny", 1, 2)
    assert min(line["difference"], line["shadow_probability"]) > 0.9
    (answered,) = [one for one in lines if one["logger"] == "labelserve.requests"]
    assert answered["time"] <= line["time"]


def test_what_is_not_asked_about(shadowed: Server) -> None:
    before = results(shadowed)
    assert shadowed.post("/predict", b"no image").status == 415
    assert shadowed.post("/predict?version=canary", RED).headers["X-Model-Version"] == "2"
    assert shadowed.post("/explain", RED).status == 200
    assert shadowed.post("/predict?version=1", BLUE).status == 200
    asked(shadowed, before, {"same": 1})


def test_requests_that_come_to_nothing_leave_room_for_others(shadowed: Server) -> None:
    for _ in range(REQUESTS):
        with shadowed.wire() as gone:
            gone.send(raw_request("/predict", LARGE))
    with shadowed.wire() as client:
        for _ in range(2 * REQUESTS):  # some while others take the room
            assert client.send(raw_request("/predict", b"no image")).reply("POST").status == 415
    tries = count()

    def is_asked() -> bool:
        name = f"try-{next(tries)}"
        assert shadowed.post("/predict", RED, {"X-Request-ID": name}).status == 200
        return any(
            one["logger"] == "labelserve.shadow" and one["request_id"] == name
            for one in shadowed.records
        )

    assert eventually(is_asked, seconds=10)


def test_the_label_may_move(shadowed: Server, folder: Path) -> None:
    """To a version of another size, whose images are decoded again, and to the one that answers."""
    put_label(folder, "canary", LARGER)
    os.kill(shadowed.process.pid, signal.SIGHUP)

    def agrees() -> bool:
        before = results(shadowed)
        shadowed.post("/predict", RED)
        assert eventually(lambda: grown(shadowed, before))
        return grown(shadowed, before) == {"same": 1}

    assert eventually(agrees)
    before = results(shadowed)
    images = [("images", f"{number}.png", RED) for number in range(5)]
    assert (
        shadowed.post("/predict/batch", *multipart(*images, ("images", "l", LARGE))).status == 200
    )
    body, headers = json_of({"instances": TENSOR.tolist()})
    assert shadowed.post("/v1/models/tiny:predict", body, headers).status == 200
    asked(shadowed, before, {"same": 6, "failed": 3})
    failed = [one for one in shadowed.records if one["message"].startswith("the shadow failed")]
    assert ["another size" in one["message"] for one in failed] == [True] * 3
    put_label(folder, "canary", 1)
    os.kill(shadowed.process.pid, signal.SIGHUP)

    def is_over() -> bool:
        before = results(shadowed)
        shadowed.post("/predict", RED)
        return not eventually(lambda: grown(shadowed, before), seconds=0.3)

    assert eventually(is_over)
    put_label(folder, "canary", OTHERWISE)
    os.kill(shadowed.process.pid, signal.SIGHUP)
    assert eventually(lambda: not is_over())


def test_it_keeps_nobody_from_stopping(shadowed: Server) -> None:
    body, headers = json_of({"instances": [{"b64": TEXT}] * 40})
    for _ in range(4):
        assert shadowed.post("/v1/models/tiny:predict", body, headers).status == 200
    assert shadowed.stop() == 0
    assert not shadowed.tracebacks


# ---- after the answer ----------------------------------------------------------------------------


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Set when the shadow's part of a request begins; and what it waits for, wherever it runs."""
    begun, may_end = threading.Event(), threading.Event()

    def follow(*_arguments: object) -> None:
        begun.set()
        assert may_end.wait(30)

    monkeypatch.setattr(Shadow, "_follow", follow)
    yield begun, may_end
    may_end.set()


def test_an_event_loop_answers_first(
    folder: Path, followed: tuple[threading.Event, threading.Event]
) -> None:
    begun, may_end = followed
    shadow: dict[str, Any] = {"shadow": "2", "shadow_percent": 100}
    with serving(None, folder, **shadow) as port, Wire(port, timeout=5) as client:
        answer = client.send(raw_request("/predict", RED)).reply("POST")
        assert answer.status == 200  # while the loop waits
        assert begun.wait(30)
        may_end.set()


def test_a_thread_answers_first(
    folder: Path, followed: tuple[threading.Event, threading.Event]
) -> None:
    begun, may_end = followed
    settings = Settings(model=folder, workers=1, shadow="2", shadow_percent=100)
    app = create_app(settings, slot=WorkerSlot(SharedState(1), 0))
    environ = EnvironBuilder("/predict", method="POST", data=RED).get_environ()
    answer = app(environ, lambda *_: lambda _: None)
    assert b"predictions" in b"".join(answer)
    assert not begun.is_set()
    may_end.set()
    answer.close()  # type: ignore[attr-defined]  # as a server does when it has sent it
    assert begun.is_set()
