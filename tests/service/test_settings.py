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
        ("LABELSERVE_NAME", "pets-2.1_x", "name", "pets-2.1_x"),
        ("LABELSERVE_NAME", "n" * 128, "name", "n" * 128),
        ("LABELSERVE_ROOT_PATH", "/classify", "root_path", "/classify"),
        ("LABELSERVE_ROOT_PATH", "/a/b-c.d", "root_path", "/a/b-c.d"),
        ("LABELSERVE_MAX_HEADER_BYTES", "32768", "max_header_bytes", 32768),
        ("LABELSERVE_SHADOW", "canary", "shadow", "canary"),
        ("LABELSERVE_SHADOW", "2", "shadow", "2"),
        ("LABELSERVE_SHADOW_PERCENT", "0.5", "shadow_percent", 0.5),
        ("LABELSERVE_CORS_ORIGINS", "", "cors_origins", ()),
        ("LABELSERVE_CORS_ORIGINS", "*", "cors_origins", ("*",)),
        (
            "LABELSERVE_CORS_ORIGINS",
            "https://example.org, http://localhost:3000,http://[::1]:80801,capacitor://localhost",
            "cors_origins",
            (
                "https://example.org",
                "http://localhost:3000",
                "http://[::1]:80801",
                "capacitor://localhost",
            ),
        ),
        ("AIP_HTTP_PORT", "8080", "port", 8080),
        ("SAGEMAKER_BIND_TO_PORT", "8081", "port", 8081),
        ("AIP_PREDICT_ROUTE", "/v1/m:predict", "platform_predict_route", "/v1/m:predict"),
        ("AIP_HEALTH_ROUTE", "/", "platform_health_route", "/"),
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
        ("LABELSERVE_NAME", ""),
        ("LABELSERVE_NAME", "my pets"),
        ("LABELSERVE_NAME", "pets/1"),
        ("LABELSERVE_NAME", "pets\n"),
        ("LABELSERVE_NAME", "n" * 129),
        ("LABELSERVE_ROOT_PATH", ""),
        ("LABELSERVE_ROOT_PATH", "/"),
        ("LABELSERVE_ROOT_PATH", "classify"),
        ("LABELSERVE_ROOT_PATH", "/classify/"),
        ("LABELSERVE_ROOT_PATH", "/a//b"),
        ("LABELSERVE_ROOT_PATH", "/a?b"),
        ("LABELSERVE_MAX_HEADER_BYTES", "8189"),
        ("LABELSERVE_MAX_HEADER_BYTES", "32769"),
        ("LABELSERVE_CORS_ORIGINS", "example.org"),
        ("LABELSERVE_CORS_ORIGINS", "https://example.org/"),
        ("LABELSERVE_CORS_ORIGINS", "https://Example.org"),
        ("LABELSERVE_CORS_ORIGINS", "https://example.org:443"),
        ("LABELSERVE_CORS_ORIGINS", "http://example.org:80"),
        ("LABELSERVE_CORS_ORIGINS", "https://*.example.org"),
        ("LABELSERVE_CORS_ORIGINS", "https://example.org http://example.org"),
        ("LABELSERVE_CORS_ORIGINS", "null"),
        ("LABELSERVE_SHADOW", ""),
        ("LABELSERVE_SHADOW", "canary,2"),
        ("LABELSERVE_SHADOW_PERCENT", "101"),
        ("AIP_HTTP_PORT", "x"),
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("AIP_HEALTH_ROUTE", "health"),
        ("AIP_PREDICT_ROUTE", "/<path:all>"),
    ],
)
def test_values_that_are_refused_name_their_variable(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{variable: text})
    assert variable in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_win_over_variables() -> None:
    variables = {"PORT": "1", "LABELSERVE_HOST": "::1", "LABELSERVE_NAME": "one"}
    arguments = {"port": "2", "host": "::", "name": "two"}
    settings = Settings.from_environ(variables, arguments)
    assert (settings.port, settings.host, settings.name) == (2, "::", "two")


@pytest.mark.parametrize("field", ["port", "name", "model"])
def test_an_argument_is_named_as_it_was_typed(field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"PORT": "80"}, {field: ""})
    assert str(caught.value).startswith(f"--{field}")


def test_a_platforms_port_is_the_port_where_none_is_set() -> None:
    platform = {"AIP_HTTP_PORT": "8080", "SAGEMAKER_BIND_TO_PORT": "8081"}
    assert read(**platform).port == 8080
    assert read(PORT="80", **platform).port == 80


def test_what_needs_no_key_is_no_prediction() -> None:
    with pytest.raises(SettingsError, match="AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE"):
        read(AIP_HEALTH_ROUTE="/", AIP_PREDICT_ROUTE="/")


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
