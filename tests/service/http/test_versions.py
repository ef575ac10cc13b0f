"""Versions of models over HTTP, in every wire format and under both workers."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.http.app import create_app
from service.http.model import ListedVersion
from service.http.model_status import VersionStatus
from service.http.open_inference.descriptions import IndexedModel
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving.models.catalogue import Offer
from service.settings import Settings
from tests.images import encode, photograph
from tests.server import WORKERS, Server, eventually, start_server
from tests.tiny_model import make_card, make_graph, write_model

IMAGE = encode(photograph(1, 24, 24), "PNG")
B64 = base64.b64encode(IMAGE).decode()
BARE = {"Inference-Header-Content-Length": "0"}
OTHER_LABELS = ("red", "green", "grey", "pink")

# A path for the version that is asked for, the body, and headers.
Ask = tuple[str, bytes, dict[str, str]]


def ask(path: str, body: Any = IMAGE, **headers: str) -> Ask:
    is_json = not isinstance(body, bytes)
    return path, json.dumps(body).encode() if is_json else body, headers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: ``pets`` in three versions, of which one is broken, and ``signs`` in one."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2, 3):
        (folder / "pets" / str(number)).mkdir(parents=True)
    write_model(folder / "pets" / "1" / "m.onnx", make_card(version="one"))
    write_model(
        folder / "pets" / "2" / "m.onnx", make_card(OTHER_LABELS, version="two"), make_graph(4)
    )
    (folder / "pets" / "3" / "m.onnx").write_text("not a model")
    (folder / "signs").mkdir()
    write_model(folder / "signs" / "m.onnx", make_card(version="signs"))
    label(folder / "pets")
    return folder


def label(pets: Path) -> None:
    for name, number in (("stable", 1), ("canary", 2)):
        (pets / name).unlink(missing_ok=True)
        (pets / name).symlink_to(str(number))


@pytest.fixture(scope="module", params=WORKERS)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    label(folder / "pets")
    settings = {"workers": 1, "name": "pets", "model_poll_seconds": 0.2, "canary_percent": 40}
    with start_server(folder, worker=request.param, **settings) as running:
        # No start waits for a version without a label.
        assert eventually(lambda: running.metric("labelserve_model_loads_total", result="refused"))
        yield running


def multipart(image: bytes) -> Ask:
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
    body = head + image + b"\r\n--x--\r\n"
    return ask("/predict/batch", body, **{"Content-Type": "multipart/form-data; boundary=x"})


BATCH = multipart(IMAGE)
ROWS = {"instances": [{"b64": B64}]}

OF_TWO = (
    ask("/predict?version=2"),
    ask("/predict?top_k=1&version=canary"),
    ask("/predict", {"image": B64}, **{"Content-Type": "application/json", "X-Canary-Key": "a"}),
    ask("/predict/batch?version=2", *BATCH[1:2], **BATCH[2]),
    ask("/explain?version=canary"),
    ask("/models/pets/predict?version=2"),
    ask("/models/pets/predict/batch?version=canary", *BATCH[1:2], **BATCH[2]),
    ask("/models/pets/explain?version=2"),
    ask("/v1/models/pets/versions/2:predict", ROWS),
    ask("/v1/models/pets/labels/canary:predict", ROWS),
    ask("/v1/models/pets/labels/canary:classify", {"examples": [{"image": {"b64": B64}}]}),
    ask("/v1/models/pets/labels/canary:explain", ROWS),
    ask("/v1/models/pets:predict?version=canary", ROWS),
    ask("/v2/models/pets/versions/2/infer", **BARE),
    ask("/v2/models/pets/infer?version=2", **BARE),
    ask("/invocations?version=2"),
    ask("/huggingface?version=canary"),
)


@pytest.mark.parametrize("asked", OF_TWO, ids=[one[0] for one in OF_TWO])
def test_every_wire_format_asks_for_a_version(server: Server, asked: Ask) -> None:
    reply = server.post(*asked)
    assert reply.status == 200, reply.body
    assert reply.headers["X-Model-Version"] == "2"
    for name in (b"grey", b"two", b'"model_version":"2"', b"[["):
        if name in reply.body:
            return
    pytest.fail(f"nothing of version 2 is in {reply.body!r}")


def test_another_model_is_asked_for_by_its_path(server: Server) -> None:
    reply = server.post("/models/signs/predict", IMAGE)
    assert reply.json()["model"]["version"] == "signs"
    assert reply.headers["X-Model-Version"] == "1"
    assert server.get("/models/signs").json()["version"] == "signs"
    assert b'"model_name":"signs"' in server.post("/v2/models/signs/infer", IMAGE, BARE).body


def test_the_set_name_is_the_model_of_paths_without_a_name(server: Server) -> None:
    stable = server.post("/predict?version=stable", IMAGE)
    assert (stable.headers["X-Model-Version"], stable.json()["model"]["version"]) == ("1", "one")
    assert server.get("/model").json()["version"] == "one"
    assert server.get("/model?version=canary").json()["version"] == "two"
    assert server.get("/health").json()["model"]["version"] == "one"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/predict?version=9", "'pets' has no version '9': there is 1 (stable), 2 (canary)"),
        ("/predict?version=beta", "'pets' has no version 'beta': there is 1 (stable), 2 (canary)"),
        ("/predict?version=3", "version 3 of 'pets' is refused, GET /models says why: there is 1"),
        ("/models/cats/predict", "no model 'cats' is served here, there is 'pets', 'signs'"),
        ("/models/signs/predict?version=stable", "'signs' has no version 'stable': there is 1"),
        ("/v1/models/pets/labels/beta:predict", "'pets' has no version 'beta'"),
        ("/v2/models/pets/versions/9/infer", "'pets' has no version '9'"),
    ],
)
def test_what_is_not_there_gets_a_404_that_names_what_is(
    server: Server, path: str, told: str
) -> None:
    reply = server.post(path, IMAGE)
    assert reply.status == 404
    answer = reply.json()
    assert told in answer.get("detail", answer.get("error"))
    assert "X-Model-Version" not in reply.headers


def test_the_list_of_models(server: Server) -> None:
    pets, signs = server.get("/models").json()["models"]
    reason = pets["versions"][2].pop("reason")
    assert "pets/3/m.onnx cannot be opened" in reason
    card = {"state": "available", "card": {"version": "one"}}
    assert pets == {
        "name": "pets",
        "default": 1,
        "versions": [
            {"version": 1, "labels": ["stable"], **card},
            {"version": 2, "labels": ["canary"], **card, "card": {"version": "two"}},
            {"version": 3, "labels": [], "state": "refused"},
        ],
    }
    assert (signs["name"], signs["default"], len(signs["versions"])) == ("signs", 1, 1)


def test_the_state_of_versions_as_tensorflow_serving_tells_it(server: Server) -> None:
    whole = server.get("/v1/models/pets").json()["model_version_status"]
    assert [(one["version"], one["state"]) for one in whole] == [
        ("3", "END"),
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    assert "cannot be opened" in whole[0]["status"]["error_message"]
    for path in ("versions/2", "labels/canary"):
        (one,) = server.get(f"/v1/models/pets/{path}").json()["model_version_status"]
        assert one["version"] == "2"
    (default,) = server.get("/v1/models/pets/labels/stable").json()["model_version_status"]
    assert default["version"] == "1"
    assert server.get("/v1/models").json() == {"models": ["pets", "signs"]}
    metadata = server.get("/v1/models/pets/labels/canary/metadata").json()
    assert metadata["model_spec"]["version"] == "2"


@pytest.mark.parametrize("path", ["/v1/models/pets/versions/3", "/v2/models/pets/versions/3/ready"])
def test_a_version_that_is_refused_is_not_ready(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status == 503
    told = reply.json()["error"]
    assert told.startswith("version 3 of 'pets' is refused: ")
    assert "cannot be opened" in told


@pytest.mark.parametrize("path", ["/v1/models/broken", "/v2/models/broken/ready"])
def test_a_model_whose_versions_are_all_refused_is_not_ready(tmp_path: Path, path: str) -> None:
    for number in (1, 2):
        (tmp_path / "broken" / str(number)).mkdir(parents=True)
        (tmp_path / "broken" / str(number) / "m.onnx").write_text("not a model")
    (tmp_path / "signs").mkdir()
    write_model(tmp_path / "signs" / "m.onnx", make_card())
    client = create_app(Settings(model=tmp_path), slot=WorkerSlot(SharedState(1), 0)).test_client()
    reply = client.get(path)
    assert reply.status_code == 503
    told = json.loads(reply.data)["error"]
    assert told.count("cannot be opened") == 2
    assert "version 2 of 'broken'" in told
    assert client.get("/v1/models/signs").status_code == 200
    assert client.get("/v2/models/signs/ready").status_code == 200


def test_statistics_of_all_versions_are_read_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model=folder, name="pets")
    client = create_app(settings, slot=WorkerSlot(SharedState(1), 0)).test_client()
    read: list[None] = []

    def collect(registry: CollectorRegistry) -> Iterable[Metric]:
        read.append(None)
        return collected(registry)

    collected = CollectorRegistry.collect
    monkeypatch.setattr(CollectorRegistry, "collect", collect)
    for asked in ("/predict?version=1", "/predict?version=2", "/predict?version=2"):
        assert client.post(asked, data=IMAGE).status_code == 200
    found = json.loads(client.get("/v2/models/stats").data)["model_stats"]
    assert [(one["name"], one["version"], one["inference_count"]) for one in found] == [
        ("pets", "1", 1),
        ("pets", "2", 2),
        ("signs", "1", 0),
    ]
    assert len(read) == 1


def test_versions_in_the_open_inference_protocol(server: Server) -> None:
    metadata = server.get("/v2/models/pets/versions/2").json()
    assert metadata["versions"] == ["1", "2"]
    assert metadata["outputs"][0]["shape"] == [-1, 4]
    assert server.get("/v2/models/pets").json()["outputs"][0]["shape"] == [-1, 3]
    assert server.get("/v2/models/pets/versions/2/ready").status == 200
    assert server.get("/v2/models/pets/versions/9/ready").status == 404
    config = server.get("/v2/models/pets/config").json()
    assert config["version_policy"] == {"specific": {"versions": [1, 2]}}
    index = server.post("/v2/repository/index", b"").json()
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("pets", "1", "READY"),
        ("pets", "2", "READY"),
        ("pets", "3", "UNAVAILABLE"),
        ("signs", "1", "READY"),
    ]


def test_monitoring_tells_versions_apart(server: Server) -> None:
    version = {"model": "pets", "model_version": "2"}

    def counted(what: str, **labels: str) -> float:
        return server.metric(f"labelserve_model_{what}_total", **version, **labels)

    def statistics() -> Any:
        (found,) = server.get("/v2/models/pets/versions/2/stats").json()["model_stats"]
        return found

    before, requests = statistics(), counted("requests", status="200")
    images, seconds = counted("images"), counted("phase_seconds", phase="inference")
    server.post("/predict?version=2", IMAGE, {"X-Request-ID": "of-two"})
    server.post("/predict?version=1", IMAGE)
    assert counted("requests", status="200") == requests + 1
    assert counted("images") == images + 1
    assert counted("phase_seconds", phase="inference") > seconds
    assert statistics()["inference_count"] == before["inference_count"] + 1
    assert statistics()["inference_stats"]["success"]["count"] == requests + 1
    (line,) = server.requests(request_id="of-two")
    assert (line["model"], line["model_version"]) == ("pets", 2)
    told = server.get("/v2/models/stats").json()["model_stats"]
    assert [(one["name"], one["version"]) for one in told] == [
        ("pets", "1"),
        ("pets", "2"),
        ("signs", "1"),
    ]
    # The version that answers by default, as its card names it.
    assert server.metric("labelserve_model_info", name="pets", version="one") == 1
    assert server.metric("labelserve_model_info", name="pets", version="two") == 0


def test_a_share_of_the_requests_is_the_canarys(server: Server) -> None:
    def answered(path: str, **headers: str) -> list[str]:
        return [server.post(path, IMAGE, headers).headers["X-Model-Version"] for _ in range(60)]

    assert 8 <= answered("/predict").count("2") <= 40
    assert 8 <= answered("/models/pets/predict").count("2") <= 40
    for key in ("a", "b", "c", "d"):
        seen = {
            server.post(path, IMAGE, headers | {"X-Canary-Key": key}).headers["X-Model-Version"]
            for path, headers in (("/predict", {}), ("/v2/models/pets/infer", BARE)) * 3
        }
        assert len(seen) == 1, key
    same = {"X-Request-ID": "one-and-the-same"}
    assert len({*answered("/predict", **same)}) == 1


def test_a_label_that_moves_takes_its_requests_along(server: Server, folder: Path) -> None:
    canary = folder / "pets" / "canary"

    def moved(number: int) -> bool:
        reply = server.post("/predict?version=canary", IMAGE)
        return reply.headers["X-Model-Version"] == str(number)

    for number in (1, 2):
        (folder / "next").symlink_to(str(number))
        (folder / "next").replace(canary)
        assert eventually(lambda: moved(number), seconds=5)  # noqa: B023
    assert server.ready()


def test_a_version_that_is_still_to_be_opened_is_listed_as_such() -> None:
    offer = Offer(3, ("canary",), None, "")
    assert (ListedVersion.of(offer).state, ListedVersion.of(offer).reason) == ("opening", UNSET)
    assert VersionStatus.of(offer) == VersionStatus("3", "LOADING")
    assert IndexedModel.of("pets", offer) == IndexedModel("pets", "3", "LOADING")
