"""Replacing the model while requests are answered."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.inference.classifier import Classifier
from service.runtime.shared_bytes import SharedBytes
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving import watcher
from service.serving.models.models import Models
from service.serving.served import Asked
from service.serving.service import Service
from service.serving.watcher import Watcher
from service.settings import Settings
from tests.images import encode, photograph
from tests.server import Server, eventually, start_server
from tests.tiny_model import make_card, make_graph, write_model

IMAGE = encode(photograph(1, 24, 24), "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models" / "m.onnx", make_card(version="one"))
    write_model(tmp_path / "two.onnx", make_card(version="two", size=(9, 5)), make_graph(3, (9, 5)))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    settings = {"workers": 2, "model_poll_seconds": 0.3, "open_model": "true"}
    with start_server(folder / "models" / "m.onnx", **settings) as running:
        yield running


def answering(models: Models) -> Classifier:
    return models.find(Asked()).classifier


def version(server: Server) -> str:
    return str(server.post("/predict", IMAGE).json()["model"]["version"])


def every_worker_says(server: Server, wanted: str) -> bool:
    return all(version(server) == wanted for _ in range(12))


def replace_a_worker(server: Server) -> None:
    """Kill one of two, and wait for its successor."""
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: len(server.workers) == 2 and victim not in server.workers)
    assert eventually(server.ready)


def refusals(server: Server) -> float:
    return server.metric("labelserve_model_loads_total", result="refused")


def put(folder: Path, content: bytes) -> None:
    """As an operator does it: beside, then over."""
    draft = folder / "models" / "draft"
    draft.write_bytes(content)
    draft.replace(folder / "models" / "m.onnx")


def test_a_new_model_takes_over_and_nothing_is_lost(server: Server, folder: Path) -> None:
    seen: list[tuple[int, str]] = []
    unready: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            reply = server.post("/predict", IMAGE)
            seen.append((reply.status, reply.json()["model"]["version"]))
            if server.get("/health/ready").status != 200:
                unready.append(1)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    put(folder, (folder / "two.onnx").read_bytes())
    assert eventually(lambda: every_worker_says(server, "two"))
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _ in seen} == {200}
    assert {spoken for _, spoken in seen} == {"one", "two"}
    assert not unready
    assert server.get("/model").json()["version"] == "two"
    assert server.get("/health").json()["model"]["version"] == "two"
    spoken_for = frozenset({("name", "tiny"), ("version", "two")})
    assert server.metrics()["labelserve_model_info", spoken_for] == 1


def test_sighup_looks_at_once_and_restarts_no_worker(folder: Path) -> None:
    path = folder / "models" / "m.onnx"
    with start_server(path, workers=2, model_poll_seconds=3600) as server:
        before = server.workers
        put(folder, (folder / "two.onnx").read_bytes())
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: every_worker_says(server, "two"))
        assert server.workers == before


@pytest.mark.parametrize("content", ["half", "text", "no card", "another contract"])
def test_what_does_not_fit_is_refused_and_the_old_one_stays(
    server: Server, folder: Path, content: str
) -> None:
    bad = folder / "bad.onnx"
    if content == "no card":
        write_model(bad, None)
    elif content == "another contract":
        write_model(bad, make_card(labels=("a", "b", "c", "d"), version="three"))
    elif content == "half":
        whole = (folder / "two.onnx").read_bytes()
        bad.write_bytes(whole[: len(whole) // 2])
    else:
        bad.write_text("not a model")
    put(folder, bad.read_bytes())
    assert eventually(lambda: refusals(server) == 2)
    time.sleep(0.7)  # for two more looks: it is not tried again and again
    assert refusals(server) == 2
    assert every_worker_says(server, "one")
    assert server.ready()
    refused = [r for r in server.records if r["message"].startswith("new model refused")]
    assert len(refused) == 2
    put(folder, (folder / "two.onnx").read_bytes())
    assert eventually(lambda: every_worker_says(server, "two"))


def test_a_file_that_is_still_being_copied_is_left_alone(server: Server, folder: Path) -> None:
    whole = (folder / "two.onnx").read_bytes()
    with (folder / "models" / "m.onnx").open("wb") as file:
        for start in range(0, len(whole), len(whole) // 12):
            file.write(whole[start : start + len(whole) // 12])
            file.flush()
            time.sleep(0.1)
    assert eventually(lambda: every_worker_says(server, "two"))
    assert refusals(server) == 0


def test_a_worker_that_dies_beside_a_refused_file_is_replaced(server: Server, folder: Path) -> None:
    put(folder, b"not a model")
    assert eventually(lambda: refusals(server) == 2)
    replace_a_worker(server)
    assert every_worker_says(server, "one")
    put(folder, (folder / "two.onnx").read_bytes())
    assert eventually(lambda: every_worker_says(server, "two"))


def test_a_worker_that_dies_beside_a_broken_default_is_replaced(folder: Path) -> None:
    """The same with versions: what answered before is not the highest that opens."""
    versions = folder / "versions"
    for number, content in ((1, "models/m.onnx"), (2, "two.onnx")):
        (versions / str(number)).mkdir(parents=True)
        shutil.copy(folder / content, versions / str(number) / "m.onnx")
    (versions / "stable").symlink_to("1")
    with start_server(versions, workers=2, model_poll_seconds=0.3) as server:
        (versions / "3").mkdir()
        (versions / "3" / "m.onnx").write_text("not a model")
        (versions / "next").symlink_to("3")
        (versions / "next").replace(versions / "stable")
        assert eventually(lambda: refusals(server) == 2)
        replace_a_worker(server)
        assert every_worker_says(server, "one")
        (told,) = server.get("/models").json()["models"]
        assert told["default"] == 1
        assert "'stable' of" in told["problems"][0]


def test_a_link_that_is_switched_counts_as_a_new_file(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
    shutil.copy(folder / "models" / "m.onnx", folder / "a" / "m.onnx")
    shutil.copy(folder / "two.onnx", folder / "b" / "m.onnx")
    link = folder / "current"
    link.symlink_to("a")
    with start_server(link / "m.onnx", workers=1, model_poll_seconds=0.3) as server:
        assert every_worker_says(server, "one")
        (folder / "next").symlink_to("b")
        (folder / "next").replace(link)
        assert eventually(lambda: every_worker_says(server, "two"))


def test_the_last_good_model_is_what_was_stored_last() -> None:
    kept = SharedBytes()
    assert kept.load() is None
    for content in (b"a" * 100_000, b"b", b"c" * 5, b"c" * 5, b""):
        kept.store(content)
        assert kept.load() == content


@pytest.fixture
def service(folder: Path) -> Service:
    settings = Settings(model=folder / "models" / "m.onnx", model_poll_seconds=0.01)
    return Service.build(settings, slot=WorkerSlot(SharedState(1), 0))


def test_a_file_that_changes_while_a_worker_starts_is_noticed(
    service: Service, folder: Path
) -> None:
    put(folder, (folder / "two.onnx").read_bytes())
    service.models.look()
    service.models.look()
    assert answering(service.models).card.version == "two"


def test_a_model_that_does_not_fit_the_memory_is_refused(service: Service, folder: Path) -> None:
    sizing = service.sizing
    small = replace(sizing, machine=sizing.machine._replace(memory=100_000_000))
    models = Models(
        small, service.slot.state.last_models, service.metrics, answering(service.models)
    )
    put(folder, (folder / "two.onnx").read_bytes())
    models.look(now=True)
    assert answering(models).card.version == "one"
    service.models.look(now=True)
    assert answering(service.models).card.version == "two"


def test_the_watcher_goes_on_after_an_error(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_HANGUP_SECONDS", 0.01)
    errors = iter([ValueError("once"), MemoryError("twice")])

    def refresh() -> None:
        for error in errors:
            raise error

    monkeypatch.setattr(service.auth, "refresh", refresh)
    Watcher(service.models, service.auth, service.slot.state, 0.01).start()
    put(folder, (folder / "two.onnx").read_bytes())
    assert eventually(lambda: answering(service.models).card.version == "two")


def test_the_watcher_opens_what_a_start_did_not_wait_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, without waiting for the next look."""
    monkeypatch.setattr(watcher, "_HANGUP_SECONDS", 0.01)
    for number in "123":
        (folder / "versions" / number).mkdir(parents=True)
        shutil.copy(folder / "two.onnx", folder / "versions" / number)
    settings = Settings(model=folder / "versions")
    service = Service.build(settings, slot=WorkerSlot(SharedState(1), 0))
    assert [one.number for one in service.models.catalogue(Asked()).served] == [3]
    Watcher(service.models, service.auth, service.slot.state, 3600).start()
    assert eventually(lambda: len(service.models.catalogue(Asked()).served) == 3)


def test_a_folders_model_is_replaced_by_one_of_another_name(folder: Path) -> None:
    """First both are there, which is said and changes nothing; then only the new one."""
    with start_server(folder / "models", model_poll_seconds=0.2) as server:
        assert version(server) == "one"
        shutil.copy(folder / "two.onnx", folder / "models" / "n.onnx")
        assert eventually(lambda: refusals(server) == 1)
        (line,) = [r for r in server.records if r["message"].startswith("new model refused")]
        assert "2 .onnx files (m.onnx, n.onnx): leave one there" in line["message"]
        assert version(server) == "one"
        (folder / "models" / "m.onnx").unlink()
        assert eventually(lambda: version(server) == "two")
        assert refusals(server) == 1


def test_the_name_is_the_settings_else_the_cards(tiny_model: Path) -> None:
    slot = WorkerSlot(SharedState(1), 0)
    assert Service.build(Settings(model=tiny_model), slot=slot).models.find(Asked()).name == "tiny"
    named = Settings(model=tiny_model, name="pets")
    assert Service.build(named, slot=slot).models.find(Asked()).name == "pets"
