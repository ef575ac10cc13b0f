"""Files of API keys as Windows' editors and PowerShell write them."""

import os
from pathlib import Path

import pytest

from service.runtime.shared_bytes import SharedBytes
from service.serving.auth import Auth
from service.serving.errors import Unauthorized
from service.settings import Settings, SettingsError
from tests.field.starting import refused
from tests.server import WORKERS, eventually, start_server

TEXT = "first-key\r\nzweiter-schlüssel\r\n"
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("begin", [b"", MARK])
def test_a_mark_and_line_ends_are_no_part_of_a_key(tmp_path: Path, begin: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(begin + TEXT.encode())
    auth = Auth(Settings(api_keys_file=file), SharedBytes())
    auth.check("/predict", {"X-API-Key": "first-key"})
    auth.check("/predict", {"Authorization": "Bearer zweiter-schlüssel"})
    with pytest.raises(Unauthorized):
        auth.check("/predict", {"X-API-Key": ""})


@pytest.mark.parametrize(
    "content",
    [TEXT.encode("utf-16"), TEXT.encode("utf-16-le"), TEXT.encode("latin-1"), b"a-key\0\n"],
    ids=["utf-16", "utf-16-without-mark", "latin-1", "zero-byte"],
)
def test_what_is_not_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="is not UTF-8 text") as caught:
        Auth(Settings(api_keys_file=file), SharedBytes())
    assert "save it as UTF-8" in str(caught.value)


def test_it_ends_the_start_with_one_line(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(TEXT.encode("utf-16"))
    status, lines, _ = refused(tiny_model, workers=2, api_keys_file=file)
    assert status == 3
    (line,) = [line for line in lines if "cannot start" in line]
    assert f"API_KEYS_FILE={file} is not UTF-8" in line
    assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("worker", WORKERS)
def test_what_is_not_utf_8_changes_nothing_while_the_service_runs(
    tiny_model: Path, tmp_path: Path, worker: str
) -> None:
    """Nobody is locked out, one line says why, and a good file is taken again."""
    file = tmp_path / "keys"
    file.write_bytes(b"first-key\n")
    settings = {"worker": worker, "api_keys_file": file, "model_poll_seconds": 0.1}
    with start_server(tiny_model, **settings) as server:

        def status(key: str) -> int:
            return server.get("/model", {"X-API-Key": key}).status

        def put(content: bytes) -> None:
            (tmp_path / "new").write_bytes(content)
            os.replace(tmp_path / "new", file)  # noqa: PTH105

        put("new-key\r\n".encode("utf-16"))
        assert eventually(lambda: any("not UTF-8" in line for line in server.log))
        assert status("first-key") == 200
        put(MARK + b"new-key\r\n")
        assert eventually(lambda: status("new-key") == 200)
        assert status("first-key") == 401
        said = [line for line in server.records if "not UTF-8" in line["message"]]
        assert [line["level"] for line in said] == ["warning"]
