"""python -m service predict and card: the same numbers as over HTTP, for files."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from service.__main__ import main
from service.inference.classifier import Classifier
from service.inference.contract import Example
from service.inference.imaging import decode_image
from tests.images import encode, photograph
from tests.server import ROOT
from tests.tiny_model import make_card, write_model, write_with_familiarity


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A photograph, a drawing, a broken image, no image, nothing at all, a folder."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encode(photograph(4, 200, 300), "JPEG"))
    drawing = tmp_path / 'a "b",c ü.png'
    drawing.write_bytes(encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:300])
    text = tmp_path / "text.jpg"
    text.write_text("hello", encoding="ascii")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    folder = tmp_path / "folder"
    folder.mkdir()
    return [photo, drawing, broken, text, empty, folder, tmp_path / "missing.png"]


def expected(classifier: Classifier, file: Path) -> list[tuple[str, float]]:
    image = decode_image(file.read_bytes(), classifier.input_size, classifier.card.input.resize)
    (row,) = classifier.predict(image.pixels[None])
    return [(p.label, p.probability) for p in classifier.rank(row)]


def test_csv(
    tiny_model: Path,
    tiny_classifier: Classifier,
    files: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(tiny_model), *map(str, files)]) == 1
    output, errors = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output)))
    assert list(rows[0]) == ["file", "rank", "label", "probability", "problem"]
    for file in files[:2]:
        mine = [row for row in rows if row["file"] == str(file)]
        assert [int(row["rank"]) for row in mine] == [1, 2, 3]
        found = [(row["label"], float(row["probability"])) for row in mine]
        assert found == expected(tiny_classifier, file)
        assert not any(row["problem"] for row in mine)
    for file in files[2:]:
        (row,) = [row for row in rows if row["file"] == str(file)]
        assert row["problem"]
        assert not row["label"]
    assert [row["file"] for row in rows if row["rank"] in ("", "1")] == [str(f) for f in files]
    assert "5 of 7 files" in errors


def test_json_lines(
    tiny_model: Path,
    tiny_classifier: Classifier,
    files: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(tiny_model), *map(str, files), "--format", "jsonl"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert all(line["model"] == {"name": "tiny", "version": "test-1"} for line in lines)
    for file, line in zip(files[:2], lines, strict=False):
        found = [(p["label"], p["probability"]) for p in line["predictions"]]
        assert found == expected(tiny_classifier, file)
    slugs = [line["problem"]["type"].rpartition(":")[2] for line in lines[2:5]]
    assert slugs == ["broken-image", "unsupported-format", "empty-image"]
    assert all("cannot be read" in line["problem"]["detail"] for line in lines[5:])


def test_success_is_0(
    tiny_model: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tiny_model), str(files[0]), "--top-k", "1"]) == 0
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 2
    assert errors == ""


@pytest.mark.parametrize("top_k", ["0", "-1", "x", "1.5"])
def test_top_k_that_is_no_whole_number(
    tiny_model: Path, files: list[Path], capsys: pytest.CaptureFixture[str], top_k: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(tiny_model), str(files[0]), f"--top-k={top_k}"])
    assert caught.value.code == 2
    assert "top-k" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["predict", "{}", "x.png"], ["card", "{}"]])
def test_a_model_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path = tmp_path / "nothing.onnx"
    assert main([part.format(path) for part in command]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert str(path) in errors
    assert len(errors.splitlines()) == 1


def test_card(
    tiny_model: Path, tiny_classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(tiny_model)]) == 0
    text = capsys.readouterr().out
    assert type(tiny_classifier.card).from_json(text) == tiny_classifier.card
    assert len(text.splitlines()) > 10


def test_a_card_is_printed_without_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    card = msgspec.structs.replace(make_card(), schema=2, examples=(Example("red", image),))
    assert main(["card", str(write_model(tmp_path / "model.onnx", card))]) == 0
    text = capsys.readouterr().out
    assert type(card).from_json(text) == card.without_images()
    assert image not in text


def run(*arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_as_a_command(tiny_model: Path, files: list[Path]) -> None:
    """Also with a name that is not text, as file systems may hold."""
    odd = os.fsencode(files[0].parent) + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes(files[0].read_bytes())
    for form in ("csv", "jsonl"):
        process = run("predict", str(tiny_model), str(files[0]), os.fsdecode(odd), "--format", form)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert output.count(b"red") + output.count(b"green") + output.count(b"blue") >= 6
        assert errors == b""


def test_a_reader_that_has_seen_enough(tiny_model: Path, files: list[Path]) -> None:
    """``| head`` is no error that needs a traceback."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    many = [str(files[0])] * 300
    process = run("predict", str(tiny_model), *many, stdout=write_end)
    os.close(write_end)
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert process.returncode != 0


def test_help_names_the_commands() -> None:
    process = run("--help")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    for word in (b"serve", b"predict", b"card"):
        assert word in output


def test_familiarity_where_the_model_has_it(
    tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_with_familiarity(tmp_path / "familiar.onnx", 0.99))
    asked = ["predict", model, *map(str, files[1:3])]
    assert main([*asked, "--top-k=1"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["file", "rank", "label", "probability", "problem", "familiarity"]
    assert [row["familiarity"] for row in rows] == ["0.784314", ""]

    assert main([*asked, "--format=jsonl"]) == 1
    answered, broken = map(json.loads, capsys.readouterr().out.splitlines())
    assert (answered["familiarity"], answered["unfamiliar"]) == (0.784314, True)
    assert list(broken) == ["file", "model", "problem"]
