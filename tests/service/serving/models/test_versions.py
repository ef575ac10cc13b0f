"""Versions of models while files and labels change, in one worker: what answers after each look."""

import gc
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.inference import model_files
from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelNotFound
from service.runtime.machine import Machine
from service.runtime.metrics import Metrics
from service.runtime.prometheus import NoRoom
from service.runtime.shared_state import SharedState
from service.runtime.sizing import Sizing
from service.serving.errors import UnknownModel
from service.serving.models.catalogue import Catalogue
from service.serving.models.models import CANARY_KEY, Models
from service.serving.models.opener import Opener
from service.serving.served import Asked
from service.settings import Settings
from tests.tiny_model import make_card, make_graph, write_model

MB = 1_000_000


class Service:
    """What the workers of one service share, and a worker."""

    def __init__(self, path: Path, memory: int = 8000 * MB, **settings: Any) -> None:
        self.state = SharedState(1)
        sizing = Sizing.fitted(Settings(model=path, workers=1, **settings), Machine(1, 8000 * MB))
        self.sizing = replace(sizing, machine=Machine(1, memory))
        self.models = self.worker()

    def worker(self) -> Models:
        models = self.starting()
        go_on(models)
        return models

    def starting(self) -> Models:
        """A worker that has opened no more than it needs to be ready."""
        return Models(self.sizing, self.state.last_models, Metrics(self.state, 0))

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.models.look()
            go_on(self.models)

    def says(self, version: str = "", name: str = "", models: Models | None = None) -> int:
        return (models or self.models).find(Asked(name, version)).number

    def states(self, name: str = "") -> dict[int, bool | None]:
        """Whether each version answers; None of one that is still to be opened."""
        offers = self.models.catalogue(Asked(name)).offers
        return {
            offer.number: offer.served is not None if offer.served or offer.reason else None
            for offer in offers
        }


def go_on(models: Models) -> None:
    """As the watcher does between two looks."""
    while models.go_on():
        pass


def put(folder: Path, *numbers: int, content: bytes | None = None) -> None:
    for number in numbers:
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
        file = folder / str(number) / "model.onnx"
        if content is None:
            write_model(file, make_card(version=f"card {number}"))
        else:
            file.write_bytes(content)


def link(folder: Path, label: str, number: int | str) -> None:
    (folder / "next").unlink(missing_ok=True)
    (folder / "next").symlink_to(str(number))
    (folder / "next").replace(folder / label)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "models", 1, 2)
    return tmp_path / "models"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "labelserve.model"):
        yield caplog


def test_without_a_label_the_highest_that_opens_answers(folder: Path) -> None:
    put(folder, 3, content=b"not a model")
    service = Service(folder)
    assert service.says() == 2
    assert service.says("1") == 1
    assert service.states() == {1: True, 2: True, 3: False}
    put(folder, 4)
    service.look(1)
    assert (service.says(), service.states()) == (2, {1: True, 2: True, 3: False, 4: None})
    service.look(1)
    assert service.says() == 4
    shutil.rmtree(folder / "4")
    service.look()
    assert service.says() == 2
    assert service.states() == {1: True, 2: True, 3: False}


def test_labels_are_followed_at_the_first_look(folder: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder)
    assert service.says() == 1
    link(folder, "stable", 2)
    link(folder, "canary", 1)
    service.look(1)
    assert (service.says(), service.says("stable"), service.says("canary")) == (2, 2, 1)
    assert service.models.find(Asked()).labels == ("stable",)
    (folder / "canary").unlink()
    service.look()
    with pytest.raises(UnknownModel, match=r"no version 'canary': there is 1, 2 \(stable\)"):
        service.says("canary")


@pytest.mark.parametrize("target", ["broken", "missing", "empty", "two defaults", "no JSON"])
def test_a_default_that_cannot_be_used_changes_nothing(
    folder: Path, target: str, lines: pytest.LogCaptureFixture
) -> None:
    """Neither here nor in a worker that takes this one's place, and not in the highest's favour."""
    link(folder, "stable", 1)
    service = Service(folder)
    if target == "broken":
        put(folder, 3, content=b"not a model")
        link(folder, "stable", 3)
    elif target == "missing":
        link(folder, "stable", 7)
    elif target == "empty":
        (folder / "3").mkdir()
        link(folder, "stable", 3)
    else:
        text = '{"stable": 2}' if target == "two defaults" else "{"
        (folder / "labels.json").write_text(text)
    service.look(4)
    told = [r.getMessage() for r in lines.records if r.levelno >= logging.WARNING]
    assert len(told) == len({*told}) > 0
    assert service.says() == service.says(models=service.worker()) == 1
    assert service.models.catalogue(Asked()).problems
    (folder / "labels.json").unlink(missing_ok=True)
    link(folder, "stable", 2)
    service.look(1)
    assert service.says() == 2
    assert not service.models.catalogue(Asked()).problems


def test_a_first_label_to_nowhere_changes_nothing(folder: Path) -> None:
    """It says that nothing new is to answer, whichever version has come meanwhile."""
    service = Service(folder)
    link(folder, "stable", 7)
    put(folder, 3)
    service.look()
    assert (service.says(), service.states()) == (2, {1: True, 2: True, 3: True})


def test_a_version_that_is_gone_goes_once_no_label_leads_there(folder: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder)
    shutil.rmtree(folder / "1")
    service.look()
    assert service.says() == 1  # in memory
    assert service.says(models=service.worker()) == 1  # from what the workers share
    link(folder, "stable", 2)
    service.look()
    assert service.states() == {2: True}


def test_what_is_replaced_in_two_steps_is_never_missing(folder: Path, tmp_path: Path) -> None:
    """``ln -sfn``, an editor, ``rm -r`` and ``mv``: a look may come in between."""
    link(folder, "stable", 1)
    (folder / "labels.json").write_text('{"canary": 2}')
    service = Service(folder)
    for path in (folder / "stable", folder / "labels.json", folder / "2"):
        path.rename(tmp_path / "away")
        service.look(1)
        assert (service.says(), service.says("canary"), service.says("2")) == (1, 2, 2), path
        (tmp_path / "away").rename(path)
        service.look(1)
    (folder / "labels.json").write_text("{")
    service.look(3)
    assert service.says("canary") == 2


def test_everything_that_is_gone_changes_nothing(folder: Path, tmp_path: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder)
    folder.rename(tmp_path / "away")
    service.look()
    assert (service.says(), service.says("2")) == (1, 2)
    folder.mkdir()
    service.look()
    assert (service.says(), service.says("2")) == (1, 2)
    assert service.says(models=service.worker()) == 1


def test_a_label_waits_for_a_version_that_is_being_opened(folder: Path) -> None:
    link(folder, "canary", 1)
    service = Service(folder)
    put(folder, 3)
    link(folder, "canary", 3)
    service.look(1)
    assert service.says("canary") == 1
    service.look(1)
    assert service.says("canary") == 3


def test_a_replaced_file_is_taken_and_a_broken_one_is_not(folder: Path) -> None:
    service = Service(folder)
    before = service.models.find(Asked(version="1")).classifier
    put(folder, 1, content=b"not a model")
    service.look()
    assert service.models.find(Asked(version="1")).classifier is before
    (offer, _) = service.models.catalogue(Asked()).offers
    assert offer.served is not None
    assert "cannot be opened" in offer.reason
    write_model(folder / "1" / "model.onnx", make_card(version="again"))
    service.look()
    assert service.models.find(Asked(version="1")).classifier.card.version == "again"


def test_a_served_version_stays_the_same_for_its_request(folder: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder)
    served = service.models.find(Asked())
    link(folder, "stable", 2)
    shutil.rmtree(folder / "1")
    service.look()
    assert (served.number, served.labels) == (1, ("stable",))
    assert served.classifier.card.version == "card 1"
    with pytest.raises(UnknownModel):
        service.says("1")


def test_what_is_gone_gives_its_memory_back(folder: Path) -> None:
    service = Service(folder)
    gone = weakref.ref(service.models.find(Asked(version="1")).classifier)
    shutil.rmtree(folder / "1")
    service.look()
    gc.collect()
    assert gone() is None


# ---- the start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stable", "told"),
    [
        ("3", r"label 'stable' of .* leads to version 3, which is refused: .* is empty"),
        ("7", r"label 'stable' of .* leads nowhere by its link: there are the versions 1, 2, 3"),
    ],
)
def test_a_start_needs_its_default(folder: Path, stable: str, told: str) -> None:
    put(folder, 3, content=b"")
    link(folder, "stable", stable)
    with pytest.raises(ModelNotFound, match=told):
        Service(folder)


def test_a_start_needs_one_version_that_opens(folder: Path) -> None:
    put(folder, 1, 2, content=b"")
    with pytest.raises(ModelError, match=r"2/model\.onnx is empty"):
        Service(folder)


@pytest.mark.parametrize(
    ("links", "opened"),
    [
        ({"stable": 1, "canary": 3}, {1, 3}),
        ({"stable": 4}, {4}),
        ({"canary": 1}, {4, 1}),  # the highest that opens is the default
        ({}, {4}),
    ],
)
def test_a_start_waits_for_what_is_asked_for_alone(
    folder: Path, links: dict[str, int], opened: set[int]
) -> None:
    """The default and what has a label; gunicorn kills a worker that opens files for a minute."""
    put(folder, 3, 4)
    put(folder, 5, content=b"not a model")
    for label, number in links.items():
        link(folder, label, number)
    service = Service(folder)
    starting = service.starting()
    found = starting.catalogue(Asked())
    assert {one.number for one in found.served} == opened
    assert found.default is not None
    assert found.default.number == links.get("stable", 4)
    for number in {1, 2, 3, 4} - opened:
        with pytest.raises(UnknownModel, match=f"version {number} of 'tiny' is being opened"):
            found.find(str(number))
    go_on(starting)
    (catalogue,) = starting.catalogues
    assert {one.number for one in catalogue.served} == {1, 2, 3, 4}


def test_what_a_worker_cannot_open_is_kept_for_the_next_one(tmp_path: Path) -> None:
    """Of several models no bytes are kept: a worker may start while a version is not there."""
    pets, other = tmp_path / "all" / "pets", tmp_path / "all" / "other"
    put(pets, 1, 2)
    put(other, 1)
    link(pets, "stable", 1)
    link(pets, "canary", 2)
    service = Service(tmp_path / "all")
    put(pets, 3, content=b"not a model")
    link(pets, "stable", 3)
    link(pets, "canary", 3)
    service.look()
    pets.rename(tmp_path / "away")
    pets.mkdir()
    put(pets, 3, content=b"not a model")
    link(pets, "stable", 3)
    link(pets, "canary", 3)
    poorer = service.worker()
    with pytest.raises(UnknownModel):
        service.says(name="pets", models=poorer)
    assert "which is refused: it leads nowhere" in str(poorer.catalogue(Asked("pets")).problems)
    shutil.rmtree(pets)
    (tmp_path / "away").rename(pets)
    later = service.worker()
    assert service.says(name="pets", models=later) == 1
    assert service.says("canary", "pets", later) == 2


# ---- one look ------------------------------------------------------------------------------------


def test_labels_are_followed_between_two_openings(folder: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder)
    put(folder, 3, 4)
    service.look(1)
    service.models.look()
    assert service.states() == {1: True, 2: True, 3: None, 4: True}
    link(folder, "stable", 2)
    link(folder, "canary", 3)
    shutil.rmtree(folder / "1")  # between two looks, nothing counts as gone
    assert service.models.go_on()
    assert (service.says(), service.says("canary"), service.says("1")) == (2, 3, 1)
    assert not service.models.go_on()


def test_a_look_costs_little_where_nothing_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One catalogue for all versions, and one listing of each folder."""
    put(folder, *range(3, 20))
    service = Service(folder)
    made: list[object] = []
    listed: list[Path] = []
    of, visible = Catalogue.of, model_files.visible

    def make(*told: Any) -> Catalogue:
        made.append(told)
        return of(*told)

    def look_into(path: Path) -> list[Path]:
        listed.append(path)
        return visible(path)

    monkeypatch.setattr(Catalogue, "of", make)
    monkeypatch.setattr(model_files, "visible", look_into)
    service.look(1)
    assert len(made) == 1
    assert sorted(listed) == sorted([folder, *(folder / str(n) for n in range(1, 20))])


def test_an_error_that_nobody_expects_is_one_versions(
    several: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    service = Service(several)
    put(several / "pets", 3)
    put(several / "signs2", 1)
    opened = Opener.open

    def fail(self: Opener, data: bytes, file: Path, folder: str, number: int) -> Classifier:
        if number == 3:
            raise MemoryError("by chance")
        return opened(self, data, file, folder, number)

    monkeypatch.setattr(Opener, "open", fail)
    service.look(4)
    assert service.says(name="signs2") == 1
    assert service.states("pets") == {1: True, 2: True, 3: False}
    assert "by chance" in service.models.catalogue(Asked("pets")).offers[2].reason
    assert len([one for one in lines.records if one.exc_info]) == 1


def test_a_version_comes_in_once_there_is_room_for_its_metrics(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    service = Service(folder)
    put(folder, 3)

    def refuse(*_: object) -> None:
        raise NoRoom("0 kB free")

    with monkeypatch.context() as full:
        full.setattr(Metrics, "add_version", refuse)
        service.look(4)
        assert service.states() == {1: True, 2: True, 3: False}
    service.look(1)
    assert service.states() == {1: True, 2: True, 3: True}
    assert len([one for one in lines.records if "more room for metrics" in one.getMessage()]) == 1


def test_a_path_that_one_may_not_look_at_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(folder)
    stat = os.stat

    def refuse(path: str | Path, **options: bool) -> os.stat_result:
        if Path(path).is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)  # root may look at everything
    service.look(3)
    assert service.states() == {1: True, 2: True}


# ---- memory --------------------------------------------------------------------------------------


def sized(folder: Path, sizes: dict[int, int]) -> None:
    """Versions whose files have about so many megabytes, of which one is opened as any other."""
    for number, size in sizes.items():
        put(folder, number)
        with (folder / str(number) / "model.onnx").open("ab") as file:
            # Another field of the protocol buffer, which onnxruntime passes over.
            data = bytes(size * MB)
            file.write(b"\xfa\x3f" + _varint(len(data)) + data)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_what_does_not_fit_is_refused_the_lowest_without_a_label_first(folder: Path) -> None:
    sized(folder, dict.fromkeys((1, 2, 3, 4), 8))
    link(folder, "stable", 1)
    service = Service(folder)
    size = (folder / "1" / "model.onnx").stat().st_size
    memory = int(service.sizing.needed_memory(*[size] * 3)) + MB
    small = Service(folder, memory=memory)
    assert small.states() == {1: True, 2: False, 3: True, 4: True}
    (reason,) = {offer.reason for offer in small.models.catalogue(Asked()).offers if offer.reason}
    assert "models/2 needs" in reason
    assert "MB of memory with the 3 that come before it, and there are" in reason
    link(folder, "canary", 2)
    small.look()
    assert small.states() == {1: True, 2: True, 3: False, 4: True}
    assert small.says("canary") == 2
    shutil.rmtree(folder / "4")
    small.look(3)  # it is gone, and then there is room
    assert small.states() == {1: True, 2: True, 3: True}


def room_for(folder: Path, *numbers: int) -> int:
    """Bytes of memory that are enough for these versions."""
    sizing = Sizing.fitted(Settings(model=folder, workers=1), Machine(1, 8000 * MB))
    sizes = [(folder / str(number) / "model.onnx").stat().st_size for number in numbers]
    return int(sizing.needed_memory(*sizes)) + MB


def test_the_default_comes_before_a_canary(folder: Path) -> None:
    sized(folder, {1: 8, 2: 8})
    link(folder, "stable", 1)
    link(folder, "canary", 2)
    small = Service(folder, memory=room_for(folder, 1))
    assert (small.says(), small.states()) == (1, {1: True, 2: False})


def test_what_has_no_room_is_an_error_once_it_is_asked_for(
    folder: Path, lines: pytest.LogCaptureFixture
) -> None:
    sized(folder, {1: 8, 2: 8})
    link(folder, "stable", 1)
    small = Service(folder, memory=room_for(folder, 1))
    small.look(3)
    link(folder, "canary", 2)
    small.look(3)
    told = [line for line in lines.records if "MB of memory with" in line.getMessage()]
    assert [line.levelno for line in told] == [logging.INFO, logging.ERROR]


@pytest.mark.parametrize("is_there", [True, False])
def test_what_answers_keeps_its_memory(folder: Path, *, is_there: bool) -> None:
    """It stays open, whatever else a label leads to, and so its memory is not free."""
    sized(folder, {1: 8})
    link(folder, "stable", 1)
    small = Service(folder, memory=room_for(folder, 1))
    if not is_there:
        shutil.rmtree(folder / "1")
        small.look()
    sized(folder, {3: 8})
    link(folder, "canary", 3)
    small.look(4)
    assert (small.says(), small.states()[1], small.states()[3]) == (1, True, False)
    assert "with the 1 that come before it" in small.models.catalogue(Asked()).offers[-1].reason


@pytest.mark.parametrize("sizes", [(8, 8), (8, 16), (16, 8)])
def test_the_default_moves_where_there_is_room_for_one(
    folder: Path, sizes: tuple[int, int]
) -> None:
    """What it leaves is open until then, as the old model is while a file is replaced."""
    sized(folder, dict(zip((1, 2), sizes, strict=True)))
    link(folder, "stable", 1)
    small = Service(folder, memory=room_for(folder, 1 if sizes[0] > sizes[1] else 2))
    assert (small.says(), small.states()) == (1, {1: True, 2: False})
    link(folder, "stable", 2)
    small.look(3)
    assert (small.says(), small.states()) == (2, {1: False, 2: True})


def test_old_versions_without_room_are_no_errors(
    folder: Path, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Opener] = []

    def count(opener: Opener) -> None:
        counted.append(opener)

    monkeypatch.setattr(Opener, "count_refusal", count)
    sized(folder, {1: 8, 2: 8})
    link(folder, "stable", 2)
    small = Service(folder, memory=room_for(folder, 1, 2))
    sized(folder, {3: 8})
    small.look(4)
    assert small.states() == {1: False, 2: True, 3: True}
    assert max(line.levelno for line in lines.records) == logging.INFO
    (line,) = [one for one in lines.records if "MB of memory with" in one.getMessage()]
    assert line.getMessage().startswith("version not opened: model ")
    assert not counted
    sized(folder, {1: 16})
    link(folder, "canary", 1)
    small.look(4)
    (line,) = [one for one in lines.records if one.levelno == logging.ERROR]
    assert line.getMessage().startswith("new model refused: model ")
    assert len(counted) == 1


def test_settings_are_lowered_for_what_has_a_label(folder: Path) -> None:
    sized(folder, dict.fromkeys((1, 2, 3), 8))
    link(folder, "stable", 1)
    machine = Machine(1, 1000 * MB)

    def wanted() -> Sizing:
        return Sizing.fitted(Settings(model=folder, workers=1), machine)

    size = (folder / "1" / "model.onnx").stat().st_size
    assert wanted().has_room(size)
    before = wanted().settings.max_pixels
    link(folder, "canary", 2)
    assert wanted().has_room(size, size)
    assert wanted().settings.max_pixels < before


# ---- several models ------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> Path:
    put(tmp_path / "several" / "pets", 1, 2)
    (tmp_path / "several" / "signs").mkdir()
    write_model(tmp_path / "several" / "signs" / "m.onnx", make_card(version="signs"))
    return tmp_path / "several"


def test_several_models_are_asked_for_by_name(several: Path) -> None:
    service = Service(several)
    assert [one.name for one in service.models.catalogues] == ["pets", "signs"]
    assert (service.says(name="pets"), service.says(name="signs")) == (2, 1)
    with pytest.raises(UnknownModel, match=r"such as /models/pets/predict: .* 'pets', 'signs'"):
        service.says()
    with pytest.raises(UnknownModel, match="no model 'cats' is served here, there is 'pets', 's"):
        service.says(name="cats")


def test_the_set_name_says_which_of_several_needs_no_name(several: Path) -> None:
    service = Service(several, name="signs")
    assert service.models.find(Asked()).name == "signs"
    assert Service(several / "signs", name="other").models.find(Asked()).name == "other"


def test_models_come_and_go(several: Path) -> None:
    service = Service(several)
    put(several / "cars", 5)
    service.look()
    assert service.says(name="cars") == 5
    shutil.rmtree(several / "signs")
    service.look()
    assert [one.name for one in service.models.catalogues] == ["cars", "pets"]
    shutil.rmtree(several / "cars")
    service.look()
    assert service.models.find(Asked()).name == "pets"  # a single one is the default


def test_a_model_that_cannot_be_used_leaves_the_others_alone(several: Path) -> None:
    put(several / "cars", 1, content=b"not a model")
    service = Service(several)
    assert service.says(name="pets") == 2
    with pytest.raises(UnknownModel, match="no version of 'cars' can be used: GET /models says"):
        service.says(name="cars")


# ---- labels of images ----------------------------------------------------------------------------


def test_other_labels_are_allowed_and_said_once(
    folder: Path, lines: pytest.LogCaptureFixture
) -> None:
    labels = ("red", "green", "pink", "grey")
    card = make_card(labels=labels)
    (folder / "3").mkdir()
    write_model(folder / "3" / "model.onnx", card, make_graph(len(labels)))
    link(folder, "stable", 1)
    service = Service(folder)
    service.look(3)
    (told,) = [r.getMessage() for r in lines.records if "knows other labels" in r.getMessage()]
    assert told.endswith("than version 1: more 'pink', 'grey'; not 'blue'")


# ---- canary --------------------------------------------------------------------------------------


def share(models: Models, version: str = "", key: str = "") -> float:
    """How many of a thousand requests version 2 answers."""
    asked, headers = Asked(version=version), {CANARY_KEY: key} if key else {}
    found = [models.choose(asked, headers, f"request-{n}").number for n in range(1000)]
    return found.count(2) / len(found)


def test_a_share_of_the_requests_is_the_canarys(folder: Path) -> None:
    link(folder, "stable", 1)
    link(folder, "canary", 2)
    for percent in (0, 10, 50, 100):
        models = Service(folder, canary_percent=percent).models
        assert share(models) == pytest.approx(percent / 100, abs=0.03)
        assert models.find(Asked()).number == 1
        assert share(models, "stable") == 0
        assert share(models, "2") == 1


def test_the_same_key_is_always_answered_by_the_same_version(folder: Path) -> None:
    """In every process: these are facts of the hash, which another release must not change."""
    link(folder, "stable", 1)
    link(folder, "canary", 2)
    models = Service(folder, canary_percent=50).models
    shares = {key: share(models, key=key) for key in "abcdefgh"}
    assert set(shares.values()) == {0, 1}
    assert "".join(key for key, answered in shares.items() if answered) == "acefgh"
    more = Service(folder, canary_percent=80).models
    assert all(share(more, key=key) for key, answered in shares.items() if answered)


def test_without_the_label_there_is_no_canary(folder: Path) -> None:
    link(folder, "stable", 1)
    service = Service(folder, canary_percent=100)
    assert share(service.models) == 0
    link(folder, "canary", 2)
    service.look(1)
    assert share(service.models) == 1
