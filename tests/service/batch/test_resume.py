"""A run that is killed, anywhere: --resume goes on, and no row is there twice or missing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.batch import command, outputs, processes
from service.batch import run as run_module
from service.batch.journal import Journal
from service.batch.lock import locked
from tests.images import encode, photograph
from tests.server import ROOT
from tests.tiny_model import make_card, write_model

FORMS = ("csv", "jsonl", "parquet")
IMAGES = 200


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to a few images, and a broken one in ten."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(9):
        (folder / f".{number}").write_bytes(encode(photograph(number, 40, 60), "JPEG"))
    (folder / ".9").write_bytes(b"broken")
    for number in range(IMAGES):
        (folder / f"{number:04}.jpg").symlink_to(folder / f".{number % 10}")
    return folder


def files_of(output: Path) -> list[str]:
    """The files that an output has rows of, in order, each once for its first row."""
    if output.suffix == ".jsonl":
        return [json.loads(line)["file"] for line in output.read_text().splitlines()]
    if output.suffix == ".csv":
        with output.open(newline="") as file:
            rows = [*csv.DictReader(file)]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [
            row
            for part in sorted(output.glob("*.parquet"))
            for row in parquet.read_table(part).to_pylist()
        ]
    return [row["file"] for row in rows if row["rank"] in (None, "", "1", 1)]


def everything(output: Path) -> object:
    """What an output says, however Parquet is divided into parts."""
    if output.suffix != ".parquet":
        return output.read_bytes()
    parquet = pytest.importorskip("pyarrow.parquet")
    return [
        row for p in sorted(output.glob("*.parquet")) for row in parquet.read_table(p).to_pylist()
    ]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    name: str = request.param
    return name


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is brought to disk after each piece of work, of ten images, by one process."""
    monkeypatch.setattr(run_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "CHUNK_IMAGES", 10)
    monkeypatch.setattr(outputs, "PART_SECONDS", 0.0)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 1000.0)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, where: object, name: str, call: int) -> None:
    """Die in the call of a method, before what it does is done."""
    calls = iter(range(1, 1000))
    method: Callable[..., object] = getattr(where, name)

    def dies(*arguments: object, **named: object) -> object:
        if next(calls) == call:
            raise Killed
        return method(*arguments, **named)

    monkeypatch.setattr(where, name, dies)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "where", [("write", 1), ("write", 7), ("settle", 4), ("settle", 21)], ids=str
)
def test_wherever_it_is_killed(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, where: tuple[str, int]
) -> None:
    whole, output = tmp_path / f"whole.{form}", tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), str(photos), "--top-k=2"]
    assert main([*asked, f"--output={whole}"]) == 1
    kind = outputs.PartsOutput if form == "parquet" else outputs.FileOutput
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, kind, *where)
        with pytest.raises(Killed):
            main([*asked, f"--output={output}"])
    assert main([*asked, f"--output={output}", "--resume"]) == 1
    assert files_of(output) == [f"{photos}/{number:04}.jpg" for number in range(IMAGES)]
    assert everything(output) == everything(whole)


@pytest.mark.usefixtures("often")
def test_between_the_output_and_its_journal(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str
) -> None:
    """What the journal does not speak of is cut off, also where a line was torn."""
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), str(photos), f"--output={output}"]
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Journal, "write", 6)
        with pytest.raises(Killed):
            main(asked)
    if form == "parquet":
        (output / ".part.draft").write_bytes(b"PAR1 and no more")
    else:
        with output.open("ab") as file:
            file.write(b'{"file": "torn' + bytes(10**6))
    assert main([*asked, "--resume"]) == 1
    assert files_of(output) == [f"{photos}/{number:04}.jpg" for number in range(IMAGES)]
    if form == "parquet":
        assert {p.name[:5] for p in output.iterdir()} == {"part-"}


def test_a_real_kill_with_processes(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    """SIGKILL to the command; its processes end with it."""
    output, names = tmp_path / "out.jsonl", tmp_path / "names"
    paths = [f"{photos}/{number:04}.jpg" for number in range(IMAGES)] * 60
    names.write_text("\n".join(paths))
    asked = ["predict", str(tiny_model), f"--from={names}", f"--output={output}", "--resume"]
    words = [sys.executable, "-c", QUICKLY, *asked]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (output.exists() and output.stat().st_size > 1e5):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = files_of_torn(output)
    assert 0 < before < len(paths)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert files_of(output) == paths
    assert_nobody_is_left(process.pid)


QUICKLY = """
import sys
from service.__main__ import main
from service.batch import processes, run

if __name__ == "__main__":
    processes.PATIENCE_SECONDS = 0.1
    run.SETTLE_SECONDS = 0.05
    sys.exit(main(sys.argv[1:]))
"""


def files_of_torn(output: Path) -> int:
    return output.read_bytes().count(b"\n")


def assert_nobody_is_left(group: int) -> None:
    """No process of a killed command's lives on."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("processes of a killed command are left")


def test_a_complete_output_stays_as_it_is(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is that of the run that completed it: a Job that is tried again sees the same."""
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), str(photos), f"--output={output}", "--resume"]
    assert main(asked) == 1
    before = everything(output)
    capsys.readouterr()
    assert main(asked) == 1
    assert everything(output) == before
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{output} is complete"
    assert main([*asked[:-1], "--overwrite"]) == 1
    assert everything(output) == before


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "asked_and_said",
    [
        (["--top-k=3"], "another --top-k"),
        (["--min-probability=0.5"], "another --min-probability"),
        (["--shard=1/2"], "another --shard"),
        (["other.jpg"], "another list of sources"),
        (["--from={tmp_path}/names"], "another --from"),
        (["--format=csv"], "another format"),
    ],
)
def test_with_something_else_it_is_refused(
    tiny_model: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked_and_said: tuple[list[str], str],
) -> None:
    more, words = asked_and_said
    (tmp_path / "names").write_text("a.jpg\n")
    output = begun(tiny_model, photos, tmp_path)
    before = output.read_bytes()
    asked = ["predict", str(tiny_model), str(photos), f"--output={output}", "--resume"]
    capsys.readouterr()
    assert main([*asked, *(one.format(tmp_path=tmp_path) for one in more)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "--overwrite" in line
    assert output.read_bytes() == before


def begun(model: Path, source: Path, tmp_path: Path, form: str = "jsonl") -> Path:
    """An output that was begun and killed."""
    output = tmp_path / f"out.{form}"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, Journal, "write", 9)
        with pytest.raises(Killed):
            main(["predict", str(model), str(source), f"--output={output}"])
    return output


@pytest.mark.usefixtures("often")
def test_with_another_model_it_is_refused(
    tiny_model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same name, too: the bytes count."""
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model.read_bytes())
    output = begun(model, photos, tmp_path)
    write_model(model, make_card(version="test-2"))
    capsys.readouterr()
    assert main(["predict", str(model), str(photos), f"--output={output}", "--resume"]) == 2
    assert "another model" in capsys.readouterr().err


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("change", ["0000.jpg", "0033.jpg", "0001a.jpg"])
def test_images_that_are_gone_or_new_in_front_are_noticed(
    tiny_model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted(photos.glob("0*.jpg")):
        (folder / path.name).symlink_to(path.resolve())
    output = begun(tiny_model, folder, tmp_path)
    changed = folder / change
    if changed.is_symlink():
        changed.unlink()
    else:
        changed.symlink_to(photos / ".1")
    capsys.readouterr()
    assert main(["predict", str(tiny_model), str(folder), f"--output={output}", "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "are not those that the output has rows of" in line


@pytest.mark.usefixtures("often")
def test_an_output_that_lost_rows_is_refused(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = begun(tiny_model, photos, tmp_path, form)
    if form == "parquet":
        (output / "part-00001.parquet").unlink()
    else:
        os.truncate(output, 100)
    capsys.readouterr()
    assert main(["predict", str(tiny_model), str(photos), f"--output={output}", "--resume"]) == 2
    assert "has lost rows" in capsys.readouterr().err


def test_an_output_that_is_there_is_refused(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"mine.{form}"
    output.write_text("precious")
    asked = ["predict", str(tiny_model), f"{photos}/0000.jpg", f"--output={output}"]
    for more in ([], ["--resume"]):
        assert main([*asked, *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is there already" in line
        assert "--overwrite" in line
    assert output.read_text() == "precious"
    assert main([*asked, "--overwrite"]) == 0
    assert files_of(output) == [f"{photos}/0000.jpg"]


def test_while_a_command_writes_another_changes_nothing(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Job may start a pod twice. Status 3: it may be tried again, when the first has ended."""
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), f"{photos}/0000.jpg", f"--output={output}"]
    assert main(asked) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    with locked(output):
        for more in ([], ["--resume"], ["--overwrite"]):
            assert main([*asked, *more]) == 3
            said = capsys.readouterr().err
            assert said == f"{output} is being written by another command\n"
    assert contents(tmp_path) == before
    assert main([*asked, "--overwrite"]) == 0
    assert files_of(output) == [f"{photos}/0000.jpg"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("often")
def test_an_output_is_kept_from_others_until_it_ends(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first step would be to remove what is there."""
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), str(photos), f"--output={output}"]
    kind = outputs.PartsOutput if form == "parquet" else outputs.FileOutput
    settle = kind.settle
    statuses: list[int] = []

    def settle_beside_another(self: Any, *, last: bool = False) -> int | None:
        if len(statuses) < 2:
            statuses.extend(main([*asked, more]) for more in ("--resume", "--overwrite"))
        return settle(self, last=last)

    monkeypatch.setattr(kind, "settle", settle_beside_another)
    assert main(asked) == 1
    assert statuses == [3, 3]
    assert files_of(output) == [f"{photos}/{number:04}.jpg" for number in range(IMAGES)]
    assert {path.name for path in tmp_path.iterdir()} == {output.name, f"{output.name}.journal"}


def test_rows_that_were_added_to_a_complete_output_stay(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str
) -> None:
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), f"{photos}/0000.jpg", f"--output={output}", "--resume"]
    assert main(asked) == 0
    added = output / "part-99999.parquet" if form == "parquet" else output
    with added.open("ab") as file:
        file.write(b"mine")
    before = contents(tmp_path)
    assert main(asked) == 0
    assert contents(tmp_path) == before


def test_a_complete_output_that_is_gone_is_refused(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), f"{photos}/0000.jpg", f"--output={output}", "--resume"]
    assert main(asked) == 0
    outputs.remove(output)
    capsys.readouterr()
    assert main(asked) == 2
    assert "has lost rows" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["write", "remove", "__init__"])
def test_a_kill_while_an_output_is_begun_anew_is_gone_on_with(
    tiny_model: Path, photos: Path, tmp_path: Path, form: str, step: str
) -> None:
    """The journal of what is removed does not speak for what comes."""
    output = tmp_path / f"out.{form}"
    asked = ["predict", str(tiny_model), f"{photos}/0000.jpg", f"--output={output}"]
    assert main(asked) == 0
    kind = outputs.PartsOutput if form == "parquet" else outputs.FileOutput
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, {"write": Journal, "remove": command}.get(step, kind), step, 1)
        with pytest.raises(Killed):
            main([*asked, "--overwrite"])
    assert main([*asked, "--resume"]) == 0
    assert files_of(output) == [f"{photos}/0000.jpg"]
