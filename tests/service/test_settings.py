"""The environment, read once: every variable, every value that is refused, and what follows."""

import dataclasses
import os
import re
from pathlib import Path

import msgspec
import pytest

from service.settings import PREFIX, Settings, SettingsError, variable_name
from tests.server import ROOT

FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def read(**variables: str) -> Settings:
    return Settings.from_environ(variables)


def test_defaults_need_no_environment() -> None:
    assert read() == Settings()
    assert read().model.name == "default.onnx"
    assert (read().host, read().port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PORT", "80", "port", 80),
        ("LABELSERVE_HOST", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104
        ("LABELSERVE_MODEL", "/models/a.onnx", "model", Path("/models/a.onnx")),
        ("LABELSERVE_WORKER", "gthread", "worker", "gthread"),
        ("LABELSERVE_WORKERS", "3", "workers", 3),
        ("LABELSERVE_WORKERS", "0", "workers", 0),
        ("LABELSERVE_MAX_PIXELS", "1000", "max_pixels", 1000),
        ("LABELSERVE_REQUEST_TIMEOUT", "0.5", "request_timeout", 0.5),
        ("LABELSERVE_REQUEST_TIMEOUT", "7", "request_timeout", 7.0),
        ("LABELSERVE_DRAIN_SECONDS", "0", "drain_seconds", 0.0),
        ("LABELSERVE_FORMATS", "PNG, TIFF", "formats", ("PNG", "TIFF")),
        ("LABELSERVE_API_KEYS", "a,b ,", "api_keys", ("a", "b")),
        ("LABELSERVE_OPEN_METRICS", "false", "open_metrics", False),
        ("LABELSERVE_OPEN_MODEL", "true", "open_model", True),
        ("LABELSERVE_OPEN_MODEL", "1", "open_model", True),
        ("LABELSERVE_LOG_FORMAT", "plain", "log_format", "plain"),
    ],
)
def test_values(variable: str, text: str, field: str, value: object) -> None:
    found = getattr(read(**{variable: text}), field)
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", ""),
        ("PORT", "80 "),
        ("LABELSERVE_WORKERS", "-1"),
        ("LABELSERVE_WORKERS", "1.5"),
        ("LABELSERVE_WORKERS", ""),
        ("LABELSERVE_WORKER", "gevent"),
        ("LABELSERVE_WORKER", "ASYNCIO"),
        ("LABELSERVE_MAX_IN_FLIGHT", "-1"),
        ("LABELSERVE_MAX_IMAGE_BYTES", "20 MB"),
        ("LABELSERVE_REQUEST_TIMEOUT", "0"),
        ("LABELSERVE_REQUEST_TIMEOUT", "-1"),
        ("LABELSERVE_REQUEST_TIMEOUT", "nan"),
        ("LABELSERVE_REQUEST_TIMEOUT", "inf"),
        ("LABELSERVE_KEEP_ALIVE", "inf"),
        ("LABELSERVE_GRACEFUL_TIMEOUT", "1e400"),
        ("LABELSERVE_FORMATS", ""),
        ("LABELSERVE_FORMATS", "JPEG,HEIC"),
        ("LABELSERVE_MODEL", ""),
        ("LABELSERVE_API_KEYS", ""),
        ("LABELSERVE_API_KEYS", " , "),
        ("LABELSERVE_PROVIDERS", ""),
        ("LABELSERVE_API_KEYS_FILE", ""),
        ("LABELSERVE_OPEN_METRICS", "maybe"),
        ("LABELSERVE_LOG_LEVEL", "verbose"),
        ("LABELSERVE_MODLE", "a.onnx"),
        ("LABELSERVE_", "x"),
        ("LABELSERVE_PORT", "80"),
    ],
)
def test_values_that_are_refused_name_their_variable(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{variable: text})
    assert variable in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_not_in_messages() -> None:
    with pytest.raises(SettingsError) as caught:
        read(LABELSERVE_API_KEYS="secret", LABELSERVE_MODLE="x")
    assert "secret" not in str(caught.value)


def test_others_variables_are_left_alone() -> None:
    assert read(LABELSERV="x", labelserve_port="y", PATH="z") == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        read().port = 1  # type: ignore[misc]


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has one row for each variable, and none for any other."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))
    assert set(rows) == {variable_name(name) for name in FIELDS}
    for name, field in FIELDS.items():
        cell = rows[variable_name(name)]
        written = re.match(r"`([^`]*)`", cell)
        if name == "model":
            assert written
            assert (ROOT / written.group(1)) == field.default
        elif written:
            value = read(**{variable_name(name): written.group(1)})
            assert getattr(value, name) == field.default, name
        else:
            assert field.default in (None, ()), name


def test_the_largest_body_holds_an_image_and_a_form() -> None:
    settings = Settings()
    assert settings.largest_body > settings.max_image_bytes
    assert settings.largest_body > settings.max_batch_bytes


def test_the_environment_of_this_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PORT", "1234")
    assert Settings.from_environ().port == 1234
