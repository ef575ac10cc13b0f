"""Settings that fit the memory there is: what is given up first, and when that is not enough."""

from itertools import pairwise
from pathlib import Path

import pytest

from service.inference.errors import ModelTooLarge
from service.memory import USABLE_SHARE, fitted_settings, needed_bytes, require_room
from service.settings import Settings, SettingsError

MB = 1_000_000
LIMITS = [400 * MB, 512 * MB, 700 * MB, 1000 * MB, 1500 * MB, 2500 * MB, 4000 * MB, 8000 * MB]


def environ(model: Path, **variables: str) -> dict[str, str]:
    return {"LABELSERVE_MODEL": str(model), "LABELSERVE_WORKERS": "2", **variables}


@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_allowed_fits(tiny_model: Path, limit: int) -> None:
    settings, lines = fitted_settings(environ(tiny_model), limit)
    assert needed_bytes(settings) <= limit * USABLE_SHARE
    wanted = Settings.from_environ(environ(tiny_model))
    assert bool(lines) == (settings != wanted)
    assert all("is lowered from" in line for line in lines)


def test_more_memory_never_allows_less(tiny_model: Path) -> None:
    found = [fitted_settings(environ(tiny_model), limit)[0] for limit in LIMITS]
    assert found[-1] == Settings.from_environ(environ(tiny_model))
    for less, more in pairwise(found):
        assert less.workers <= more.workers
        assert less.max_image_bytes <= more.max_image_bytes
        assert less.max_batch_bytes <= more.max_batch_bytes


def test_workers_go_after_everything_that_a_photograph_can_do_without(tiny_model: Path) -> None:
    lowered = {
        limit: {line.split(" ", 1)[0] for line in fitted_settings(environ(tiny_model), limit)[1]}
        for limit in LIMITS
    }
    for names in lowered.values():
        assert "LABELSERVE_WORKERS" not in names or "LABELSERVE_MAX_BATCH_BYTES" in names
        assert "LABELSERVE_MAX_IMAGE_BYTES" not in names or "LABELSERVE_WORKERS" in names
    assert "LABELSERVE_WORKERS" in lowered[LIMITS[0]]


def test_too_little_memory_stops_the_start(tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match=r"150 MB of memory are too few: .* are the least"):
        fitted_settings(environ(tiny_model), 150 * MB)


def test_a_model_has_to_fit_too(tmp_path: Path, tiny_model: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(200 * MB)  # 1.6 GB in each of two workers
    require_room(Settings(model=tiny_model, workers=2), 4000 * MB)
    with pytest.raises(ModelTooLarge, match=r"large\.onnx needs"):
        require_room(Settings(model=large, workers=2), 4000 * MB)
    with pytest.raises(SettingsError, match="too few"):
        fitted_settings(environ(large), 1500 * MB)
