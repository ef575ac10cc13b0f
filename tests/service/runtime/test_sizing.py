"""Sizes by cores and memory: what follows from the settings, and what is given up first."""

from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from service.runtime.machine import Machine
from service.runtime.sizing import USABLE_SHARE, Sizing
from service.settings import Settings, SettingsError

MB = 1_000_000
LIMITS = [400 * MB, 512 * MB, 700 * MB, 1000 * MB, 1500 * MB, 2500 * MB, 4000 * MB, 8000 * MB]


def on(cores: float, **settings: int) -> Sizing:
    return Sizing.of(Settings(**settings), Machine(cores, 8000 * MB))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cores", "workers"), [(0.1, 1), (0.5, 1), (1, 1), (1.01, 2), (1.5, 2), (8, 8), (64, 64)]
)
def test_sizes_by_cores(cores: float, workers: int) -> None:
    sizing = on(cores)
    assert sizing.workers == workers
    assert sizing.inference_threads == 1
    assert sizing.decoders == 1
    assert sizing.max_in_flight == 64


@pytest.mark.parametrize(
    ("cores", "workers", "images"), [(0.5, 0, 8), (0.01, 0, 1), (1, 0, 16), (2, 4, 8), (8, 2, 16)]
)
def test_batches_by_cores(cores: float, workers: int, images: int) -> None:
    assert on(cores, workers=workers).max_batch_size == images
    assert on(cores, workers=workers, max_batch_size=3).max_batch_size == 3


def test_sizes_that_are_set_stay() -> None:
    assert on(8, workers=2).workers == 2
    assert on(8, workers=2).inference_threads == 4
    assert on(8, workers=2).decoders == 4
    assert on(8, workers=2).max_in_flight == 256
    assert on(8, max_in_flight=16).max_in_flight == 2
    assert on(8, workers=2, inference_threads=3).inference_threads == 3
    assert on(8, workers=2, decoders=1).decoders == 1


def test_only_the_asyncio_worker_admits_by_wait() -> None:
    machine = Machine(1, 8000 * MB)
    assert Sizing.of(Settings(), machine).admits_by_wait
    assert not Sizing.of(Settings(max_in_flight=5), machine).admits_by_wait
    assert not Sizing.of(Settings(worker="gthread"), machine).admits_by_wait


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 200])
def test_bounds_are_shared_out(workers: int) -> None:
    """All workers together hold what was set, or a little more, and each at least one."""
    sizing = on(2, workers=workers, max_in_flight=128)
    for total, each in ((128, sizing.max_in_flight), (8192, sizing.connections)):
        assert each >= 1
        assert total <= each * workers < total + workers
    assert sizing.buffered_bytes >= sizing.settings.largest_body


# ---- memory --------------------------------------------------------------------------------------


def wanted(model: Path) -> Settings:
    return Settings(model=model, workers=2)


def fitted(model: Path, memory: int) -> Sizing:
    return Sizing.fitted(wanted(model), Machine(2, memory))


@pytest.mark.parametrize("memory", LIMITS)
def test_what_is_allowed_fits(tiny_model: Path, memory: int) -> None:
    sizing = fitted(tiny_model, memory)
    assert sizing.needed_bytes(tiny_model.stat().st_size) <= memory * USABLE_SHARE
    assert bool(sizing.lowered) == (sizing.settings != wanted(tiny_model))
    assert all("is lowered from" in line for line in sizing.lowered)


def test_more_memory_never_allows_less(tiny_model: Path) -> None:
    found = [fitted(tiny_model, memory).settings for memory in LIMITS]
    assert found[-1] == wanted(tiny_model)
    for less, more in pairwise(found):
        assert less.workers <= more.workers
        assert less.max_image_bytes <= more.max_image_bytes
        assert less.max_batch_bytes <= more.max_batch_bytes


def test_workers_go_after_everything_that_a_photograph_can_do_without(tiny_model: Path) -> None:
    lowered = {
        memory: {line.split(" ", 1)[0] for line in fitted(tiny_model, memory).lowered}
        for memory in LIMITS
    }
    for names in lowered.values():
        assert "LABELSERVE_WORKERS" not in names or "LABELSERVE_MAX_BATCH_BYTES" in names
        assert "LABELSERVE_MAX_IMAGE_BYTES" not in names or "LABELSERVE_WORKERS" in names
    assert "LABELSERVE_WORKERS" in lowered[LIMITS[0]]


def test_too_little_memory_stops_the_start(tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match=r"150 MB of memory are too few: .* are the least"):
        fitted(tiny_model, 150 * MB)


def test_a_model_has_to_fit_too(tmp_path: Path, tiny_model: Path) -> None:
    large = 200 * MB  # 1.6 GB in each of two workers
    sizing = fitted(tiny_model, 4000 * MB)
    assert sizing.has_room(tiny_model.stat().st_size)
    assert not sizing.has_room(large)
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(large)
    with pytest.raises(SettingsError, match="too few"):
        fitted(tmp_path / "large.onnx", 1500 * MB)


def test_what_a_shadow_keeps_is_counted() -> None:
    machine, wanted = Machine(2, 8000 * MB), Settings(workers=2, max_image_bytes=5 * MB)
    without = Sizing.of(wanted, machine).needed_bytes()
    shadowed = Sizing.of(msgspec.structs.replace(wanted, shadow="canary"), machine)
    assert shadowed.needed_bytes() == without + 2 * 5 * MB
