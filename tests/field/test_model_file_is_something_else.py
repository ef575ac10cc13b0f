"""A Git LFS pointer, and what else is put where the model file should be."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from service.__main__ import main
from service.inference.classifier import Classifier
from service.inference.errors import ModelUnreadable
from tests.field.starting import refused

POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.weights.h5", "")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (POINTER, "Git LFS pointer.*git lfs pull"),
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (json.dumps({"schema": 1}).encode(), "JSON"),
        (zipped(), "zip archive.*keras"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5.*h5"),
        (pickle.dumps({"weight": 1}), "pickle.*pt"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":1}', "safetensors"),
        (b"\x1f\x8b\x08" + bytes(40), "compressed"),
    ],
)
def test_it_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelUnreadable, match=named) as caught:
        Classifier.load(path)
    assert str(caught.value).startswith(f"model file {path} ")
    assert "\n" not in str(caught.value)


def test_the_start_and_the_commands_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(POINTER)
    status, lines, _ = refused(path, workers=2)
    assert status == 3
    (line,) = [line for line in lines if "cannot start" in line]
    assert "git lfs pull" in line
    for command in (["card", str(path)], ["predict", str(path), "a.png"]):
        assert main(command) == 2
        assert "git lfs pull" in capsys.readouterr().err
