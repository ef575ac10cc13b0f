"""Versions of models while files and labels change, in one worker: what answers after each look."""

import gc
import logging
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.inference.errors import ModelError, ModelNotFound
from service.runtime.machine import Machine
from service.runtime.metrics import Metrics
from service.runtime.shared_state import SharedState
from service.runtime.sizing import Sizing
from service.serving.errors import UnknownModel
from service.serving.models import CANARY_KEY, Models
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
        return Models(self.sizing, self.state.last_models, Metrics(self.state, 0))

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.models.look()

    def says(self, version: str = "", name: str = "", models: Models | None = None) -> int:
        return (models or self.models).find(Asked(name, version)).number

    def states(self, name: str = "") -> dict[int, bool]:
        offers = self.models.catalogue(Asked(name)).offers
        return {offer.number: offer.served is not None for offer in offers}


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
    assert (service.says(), service.states()) == (2, {1: True, 2: True, 3: False})  # it may come
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
