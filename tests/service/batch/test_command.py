"""python -m service predict: the same numbers as over HTTP, for files."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from service.__main__ import main
from service.batch import command, progress
from service.batch import run as run_module
from service.http.app import create_app
from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.settings import Settings
from tests.images import encode, photograph
from tests.server import ROOT
from tests.tiny_model import write_with_familiarity


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
    assert "has no images" in lines[5]["problem"]["detail"]
    assert "cannot be read" in lines[6]["problem"]["detail"]


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


def test_a_model_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing.onnx"
    assert main(["predict", str(path), "x.png"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert str(path) in errors
    assert len(errors.splitlines()) == 1


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
    assert errors == b""
    assert process.returncode == 3


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


def test_the_same_answers_as_over_http(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, for many images in batches; a tenth of them are broken."""
    images = {f"{n}.jpg": encode(photograph(n, 30 + n % 9, 50), "JPEG") for n in range(90)}
    images |= {f"{n}x.jpg": images[f"{n}.jpg"][: 200 + n] for n in range(10)}
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    assert main(["predict", str(tiny_model), str(tmp_path), "--format=jsonl"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(images)
    client = create_app(Settings(model=tiny_model)).test_client()
    for row in rows:
        answer = client.post("/predict", data=images[Path(row.pop("file")).name]).get_json()
        if "problem" in row:
            del answer["request_id"]
            assert row["problem"] == answer
        else:
            assert row == answer


def test_min_probability_as_over_http(
    tiny_model: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """An image of which no label is probable enough keeps a row."""
    asked = ["predict", str(tiny_model), *map(str, files[:2])]
    assert main([*asked, "--min-probability", "0.2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert all(float(row["probability"]) >= 0.2 for row in rows)
    assert len({row["file"] for row in rows}) == 2
    assert main([*asked, "--min-probability", "1"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["label"], row["problem"]) for row in rows] == [
        (str(file), "", "") for file in files[:2]
    ]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is refused."""
    assert main(["predict", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    return line


def test_what_is_refused_with_one_line(
    tiny_model: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = str(tiny_model), str(files[0])
    for shard in ("0/8", "9/8", "x"):
        assert "is no shard" in refusal(capsys, model, file, "--shard", shard)
    nowhere = f"--output={tmp_path}/nowhere/out.csv"
    assert f"there is no folder {tmp_path}/nowhere" in refusal(capsys, model, file, nowhere)
    said = refusal(capsys, model, file, f"--output={tmp_path}/out.txt")
    assert "does not tell a format" in said
    assert "it is a folder" in refusal(capsys, model, file, "--format=csv", f"--output={tmp_path}")
    for name in ("missing.txt", str(tmp_path)):
        assert f"the list {name} cannot be read" in refusal(capsys, model, f"--from={name}")
    assert "--output" in refusal(capsys, model, file, "--format=parquet")
    assert sorted(tmp_path.iterdir()) == sorted(files[:-1])  # and nothing was written


@pytest.mark.parametrize("more", ["--resume", "--overwrite"])
def test_an_output_that_is_no_file_is_refused_and_stays(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    """A pipe here; root could remove /dev/null."""
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    line = refusal(capsys, str(tiny_model), "x.jpg", f"--output={pipe}", more)
    assert "it is neither a file nor a folder" in line
    assert pipe.is_fifo()
    assert [*tmp_path.iterdir()] == [pipe]


@pytest.mark.parametrize("arguments", [[], ["--resume", "--overwrite", "x.jpg"], ["x", "--no"]])
def test_a_command_that_makes_no_sense(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(tiny_model), *arguments])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_sources_may_stand_behind_options(
    tiny_model: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["predict", str(tiny_model), str(files[1]), "--top-k=1", str(files[0])]
    assert main(asked) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == [str(files[1]), str(files[0])]


@pytest.mark.parametrize("words", ["A --top-k=1 -- B -x", "A --top-k=1 B -- -x", "-- A B -x"])
def test_behind_two_dashes_all_are_sources(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert main(["predict", str(tiny_model), *words.split()]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == ["A", "B", "-x"]


def test_parquet_without_pyarrow_is_said(
    tiny_model: Path,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refusal(capsys, str(tiny_model), str(files[0]), f"--output={tmp_path}/x.parquet")
    assert "requirements/parquet.txt" in line


def test_parquet_has_the_columns_of_csv(
    tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    model = str(write_with_familiarity(tmp_path / "familiar.onnx", 0.99))
    asked = ["predict", model, *map(str, files)]
    assert main([*asked, f"--output={tmp_path}/x.parquet"]) == 1
    assert main(asked) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    table = parquet.read_table(tmp_path / "x.parquet")  # the folder, as one table
    kinds = {"rank": "int32", "probability": "double", "familiarity": "double"}
    assert {field.name: str(field.type) for field in table.schema} == {
        name: kinds.get(name, "string") for name in rows[0]
    }
    found = table.to_pylist()
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in found
    ] == rows


def test_the_parts_are_the_whole(
    tiny_model: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files, members of an archive, and what has a problem: each in one shard."""
    archive = tmp_path / "more.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(20):
            zipped.write(files[number % 2], f"{number}.png")
    asked = ["predict", str(tiny_model), *map(str, [*files, archive]), "--top-k=1"]
    parts = []
    for number in (1, 2, 3):
        main([*asked, f"--shard={number}/3"])
        parts.append(capsys.readouterr().out.splitlines()[1:])
        main([*asked, f"--shard={number}/3"])
        assert capsys.readouterr().out.splitlines()[1:] == parts[-1]
    main(asked)
    whole = capsys.readouterr().out.splitlines()[1:]
    assert sorted(chain.from_iterable(parts)) == sorted(whole)
    assert all(0 < len(part) < 20 for part in parts)


def test_progress_without_a_terminal_is_a_line_at_times(
    tiny_model: Path,
    files: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "CHUNK_IMAGES", 50)
    assert main(["predict", str(tiny_model), *[str(files[1])] * 500]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"450 of 500 images, .+ images/s, 00:0\d left", lines[-2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(tiny_model: Path, tmp_path: Path, number: signal.Signals) -> None:
    """One line, and the status by which shells and Kubernetes know it."""
    output = tmp_path / "out.csv"
    words = [sys.executable, "-m", "service", "predict", str(tiny_model), "-"]
    with subprocess.Popen(
        # Where the tests are a background job, Ctrl-C is ignored from the start.
        ["env", "--default-signal=INT", *words, f"--output={output}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # names that never come
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (output.exists() and output.stat().st_size):
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert said == f"stopped by {number.name}; --resume goes on where it ended\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize("more", ["--resume", "--overwrite"])
def test_an_output_that_is_a_source_is_refused_and_stays(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    names = tmp_path / "names.csv"
    names.write_text("a.jpg")
    (tmp_path / "link.csv").symlink_to(names)
    for source in (f"--from={names}", f"{tmp_path}/link.csv"):
        line = refusal(capsys, str(tiny_model), source, f"--output={names}", more)
        assert "it is one of the sources" in line
    assert names.read_text() == "a.jpg"


def test_names_in_a_pipe_are_all_answered(
    tiny_model: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--from <(find ...)``: nothing else may read from it."""
    names, pipe = 5000, tmp_path / "pipe"
    os.mkfifo(pipe)
    fill = threading.Thread(target=lambda: pipe.write_text("missing.jpg\n" * names), daemon=True)
    fill.start()
    assert main(["predict", str(tiny_model), f"--from={pipe}"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1 + names
    fill.join(timeout=10)
    (inherited, end) = os.pipe()
    os.write(end, os.fsencode(files[0]) + b"\n")
    os.close(end)
    assert main(["predict", str(tiny_model), f"--from=/dev/fd/{inherited}", "--top-k=1"]) == 0
    os.close(inherited)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_list_that_cannot_be_read_to_its_end(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The memory of this process stands for a disk that is damaged."""
    output = f"--output={tmp_path}/out.csv"
    assert main(["predict", str(tiny_model), "--from=/proc/self/mem", output]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "the list /proc/self/mem cannot be read: Input/output error; --resume goes on where it"
        " ended"
    )


def test_names_that_are_no_text_are_gone_on_with(
    tiny_model: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, other = (os.fsdecode(os.fsencode(tmp_path) + end) for end in (b"/\xff.jpg", b"/\xfe.jpg"))
    Path(odd).write_bytes(files[0].read_bytes())
    (tmp_path / "out").mkdir()
    asked = ["predict", str(tiny_model), f"--output={tmp_path}/out/x.csv", "--resume"]
    assert main([*asked, odd]) == 0
    assert main([*asked, odd]) == 0
    capsys.readouterr()
    assert main([*asked, other]) == 2
    assert "another list of sources" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.csv", "x.csv.journal"]


@pytest.mark.parametrize("error", [ValueError("odd"), BrokenPipeError("a process'")])
def test_an_error_that_nobody_expects_does_not_pass_for_a_complete_output(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "chunks", fails)
    assert main(["predict", str(tiny_model), "x.jpg", f"--output={tmp_path}/x.csv"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == f"stopped by {type(error).__name__}; --resume goes on where it ended"


def test_no_memory_in_a_process_is_said(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(command, "run", fails)
    assert main(["predict", str(tiny_model), "x.jpg"]) == 3
    assert capsys.readouterr().err == "a process was killed, or ran out of memory\n"


def test_that_nobody_reads_the_messages_changes_nothing(
    tiny_model: Path, files: list[Path], tmp_path: Path
) -> None:
    """``2>&1 | head``"""
    read_end, write_end = os.pipe()
    os.close(read_end)
    begun = [sys.executable, "-m", "service", "predict", str(tiny_model), str(files[2])]
    refused = [*begun, f"--output={tmp_path}/nowhere/x.csv"]
    for words, status in ((begun, 1), (refused, 2)):
        done = subprocess.run(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=write_end, check=False
        )
        assert done.returncode == status
    os.close(write_end)
