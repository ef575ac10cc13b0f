"""What computes: chosen by a setting, and the CPU where the choice cannot be had."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from msgspec.structs import replace
from PIL import Image

from service.inference.classifier import CPU, Classifier, provider_name
from service.inference.errors import ModelUnreadable, UnknownProvider
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving.service import Service
from service.settings import Settings, SettingsError
from tests.images import encode
from tests.server import start_server

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
CUDA, TENSORRT, OPENVINO = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "OpenVINO"))
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


def opened(model: Path, *providers: str) -> Classifier:
    return Classifier.open(model.read_bytes(), model, providers=providers)


class Machine:
    """An onnxruntime with providers that this one lacks; some fail when a session wants them.

    ``asked``: the providers of each session that was tried. The sessions themselves are real.
    """

    def __init__(self, installed: Sequence[str], raising: Sequence[str], absent: Sequence[str]):
        self.installed = [*installed, CPU]
        self.raising, self.absent = raising, absent
        self.asked: list[list[str]] = []
        self._session = ort.InferenceSession

    def __call__(self, data: bytes, options: Any, *, providers: list[str], **others: Any) -> Any:
        self.asked.append(providers)
        for name in self.raising:
            if name in providers:
                raise RuntimeError(f"no driver for {name}")
        session = self._session(data, options, providers=[CPU], **others)
        kept = [name for name in providers if name not in self.absent]
        session.get_providers = lambda: kept
        return session


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *installed: str,
    raising: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> Machine:
    made = Machine(installed, raising, absent)
    monkeypatch.setattr(ort, "InferenceSession", made)
    monkeypatch.setattr(ort, "get_available_providers", lambda: made.installed)
    return made


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("cpu", CPU),
        ("CPU", CPU),
        ("CPUExecutionProvider", CPU),
        ("cuda", CUDA),
        ("tensorrt", TENSORRT),
        ("TensorrtExecutionProvider", TENSORRT),
        ("OpenVINO", OPENVINO),
    ],
)
def test_short_and_whole_names(name: str, whole: str) -> None:
    assert provider_name(name) == whole


@pytest.mark.parametrize("name", ["gpu", "cuda ExecutionProvider", "", "ExecutionProvider"])
def test_unknown_names_are_refused_with_what_is_installed(name: str) -> None:
    with pytest.raises(UnknownProvider, match=r"installed are .*\bcpu\b"):
        provider_name(name)


@pytest.mark.parametrize("text", ["gpu", "cpu,gpu"])
def test_the_start_refuses_them_by_the_settings_name(tiny_model: Path, text: str) -> None:
    settings = Settings.from_environ({"LABELSERVE_PROVIDERS": text})
    settings = replace(settings, model=tiny_model)
    with pytest.raises(SettingsError, match=r"LABELSERVE_PROVIDERS=.*\bcpu\b"):
        Service.build(settings, slot=WorkerSlot(SharedState(1), 0))


def test_none_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"LABELSERVE_PROVIDERS.*\bcpu\b"):
        Settings.from_environ({"LABELSERVE_PROVIDERS": ""})


def test_the_setting_keeps_the_order() -> None:
    settings = Settings.from_environ({"LABELSERVE_PROVIDERS": "tensorrt, cuda,CPU"})
    assert settings.providers == ("tensorrt", "cuda", "CPU")
    assert Settings().providers == ("cpu",)


# ---- what is used --------------------------------------------------------------------------------


def test_the_cpu_is_the_default(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Classifier.load(tiny_model).providers == (CPU,)
    assert opened(tiny_model, "cpu").providers == (CPU,)
    assert warned(caplog) == []


def test_the_order_is_kept_and_the_cpu_does_what_is_left(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = machine(monkeypatch, CUDA, TENSORRT)
    assert opened(tiny_model, "tensorrt", "cuda", "cuda").providers == (TENSORRT, CUDA, CPU)
    assert opened(tiny_model, "cpu", "cuda").providers == (CPU, CUDA)
    assert made.asked == [[TENSORRT, CUDA, CPU], [CPU, CUDA]]
    assert warned(caplog) == []


def test_one_that_is_not_installed(
    tiny_model: Path, tiny_classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    """No pretending here: the onnxruntime of the tests has no OpenVINO."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # onnxruntime was not even asked for it
        classifier = opened(tiny_model, "openvino")
    assert classifier.providers == (CPU,)
    (line,) = warned(caplog)
    assert line.startswith(f"{OPENVINO} is not installed")
    assert CPU in line
    np.testing.assert_array_equal(classifier.predict(IMAGES), tiny_classifier.predict(IMAGES))


def test_one_that_raises_when_it_is_loaded(
    tiny_model: Path,
    tiny_classifier: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = machine(monkeypatch, CUDA, TENSORRT, raising=[TENSORRT])
    classifier = opened(tiny_model, "tensorrt", "cuda")
    assert classifier.providers == (CUDA, CPU)
    assert made.asked == [[TENSORRT, CUDA, CPU], [CUDA, CPU]]
    (line,) = warned(caplog)
    assert line == (
        f"{TENSORRT} cannot be used, inference goes on without: no driver for {TENSORRT}"
    )
    np.testing.assert_array_equal(classifier.predict(IMAGES), tiny_classifier.predict(IMAGES))
    assert capfd.readouterr().out == ""


def test_all_of_them_raise(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, CUDA, TENSORRT, raising=[TENSORRT, CUDA])
    assert opened(tiny_model, "tensorrt", "cuda").providers == (CPU,)
    assert len(warned(caplog)) == 2


def test_one_that_onnxruntime_leaves_out(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So it does without CUDA's libraries: no exception, another provider."""
    machine(monkeypatch, CUDA, absent=[CUDA])
    assert opened(tiny_model, "cuda").providers == (CPU,)
    assert warned(caplog) == [f"{CUDA} cannot be loaded, inference goes on without"]


def test_a_broken_file_is_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, CUDA)
    with pytest.raises(ModelUnreadable):
        Classifier.open(b"no model", tmp_path / "m.onnx", providers=["cuda"])
    assert warned(caplog) == []


# ---- the service ---------------------------------------------------------------------------------


def test_the_service_says_once_what_computes(tiny_model: Path) -> None:
    with start_server(tiny_model, providers="openvino,cpu", workers=2) as server:
        assert server.post("/predict", RED).status == 200
        said = [(line["level"], line["message"]) for line in server.records]
    assert said.count(("info", f"inference by {CPU}")) == 1
    assert any(level == "warning" and OPENVINO in text for level, text in said)
