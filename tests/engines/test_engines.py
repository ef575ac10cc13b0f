"""The programs for Ray Data and Spark answer as /predict does. `make test-engines` runs these.

Each really starts its engine, on two cores. The engines are too large for the project's own
environment: each has one in the user's cache, set up once.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from service.batch.parquet import schema
from service.settings import DEFAULT_MODEL
from tests.engines.programs import PACKAGES, environment
from tests.images import encode, photograph
from tests.server import Server, start_server

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

CORES = 2
# Of a file: its labels with their probabilities, its familiarity; or what is wrong with it.
Answer = tuple[list[tuple[str, float]], float | None] | str
Engine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 61 files, seven of them broken, with names as people give them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "by day" / "à la plage").mkdir(parents=True)
    for number, content in enumerate(_contents()):
        place = ("", "by day", "by day/à la plage")[number % 3]
        ending = ("jpg", "JPEG", "png")[number % 3]
        (folder / place / f"{number} 100%25 #1.{ending}").write_bytes(content)
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def _contents() -> Iterator[bytes]:
    small = encode(photograph(0, 32, 32), "PNG")
    large = encode(photograph(1, 300, 400), "JPEG")
    yield from (b"", b"no image", large[:3000], small[:60], small[:-30], large[:2], small[:8])
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(18):
        photo = photograph(number, 40 + 9 * number, 60)
        yield encode(photo, "PNG")
        yield encode(photo, "JPEG", exif=turned)
        yield encode(photo.convert("CMYK"), "JPEG")


@pytest.fixture(scope="session")
def answers(images: Path) -> Mapping[str, Answer]:
    """What a running service says of each."""
    with start_server(DEFAULT_MODEL) as server:
        files = [file for file in images.rglob("*") if file.suffix.lower() != ".txt"]
        return {str(file): _answer(server, file) for file in files if file.is_file()}


def _answer(server: Server, file: Path) -> Answer:
    content = file.read_bytes()
    if not content:  # over HTTP, the answer speaks of the request
        return "the image has no bytes"
    answer = server.post("/predict", content).json()
    if "detail" in answer:
        return str(answer["detail"])
    found = [(one["label"], one["probability"]) for one in answer["predictions"]]
    return found, answer.get("familiarity")


@pytest.fixture(scope="session", params=PACKAGES)
def engine(request: pytest.FixtureRequest, pythons: Mapping[str, Future[Path]]) -> str:
    """The name of an engine that is installed, and has what it needs of the system."""
    if request.param == "spark" and shutil.which("java") is None:
        pytest.skip("SPARK IS NOT TESTED: there is no java (Debian: default-jre-headless)")
    pythons[request.param].result()
    return str(request.param)


@pytest.fixture
def run(engine: str, pythons: Mapping[str, Future[Path]], tmp_path: Path) -> Engine:
    """Runs a Python program with the engine's interpreter, as on a machine of two cores."""

    def result(*arguments: str) -> "subprocess.CompletedProcess[str]":
        python = str(pythons[engine].result())
        return subprocess.run(
            [python, *arguments],
            env=environment(CORES),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return result


def written(folder: Path) -> dict[str, Answer]:
    """A program's answers: file -> answer."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(folder).to_pylist():
        rows.setdefault(row["file"].removeprefix("file:"), []).append(row)
    return {file: _as_answered(found) for file, found in rows.items()}


def _as_answered(rows: Sequence[dict[str, Any]]) -> Answer:
    first = rows[0]
    if first["problem"] is not None:
        assert len(rows) == 1
        assert first["rank"] is first["label"] is first["probability"] is None
        return str(first["problem"])
    ranked = sorted(rows, key=lambda row: row["rank"])
    assert [row["rank"] for row in ranked] == list(range(1, len(rows) + 1))
    return [(row["label"], row["probability"]) for row in ranked], first.get("familiarity")


def test_it_answers_as_predict_does(
    engine: str, run: Engine, images: Path, answers: Mapping[str, Answer], tmp_path: Path
) -> None:
    """And a tenth of the files being broken ends nothing."""
    output = tmp_path / "answers"
    command = ["-m", f"service.batch.{engine}", str(DEFAULT_MODEL), str(images)]
    done = run(*command, "--output", "answers")
    assert done.returncode == 0, done.stderr
    expected = dict(answers)
    if engine == "spark":  # which lists no empty files
        del expected[str(images / "0 100%25 #1.jpg")]
    broken = sum(isinstance(answer, str) for answer in expected.values())
    assert f"{len(expected)} images, {broken} of them with a problem: answers" in done.stderr
    assert broken * 10 >= len(expected)
    assert written(output) == expected
    assert pq.read_table(output).schema.equals(schema(has_familiarity=True))


def test_one_image_and_a_model_without_familiarity(
    run: Engine, engine: str, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Fewer files than cores, and what is in the output's place is replaced."""
    output = tmp_path / "answers"
    output.mkdir()
    (output / "old.parquet").write_bytes(b"")
    file = tmp_path / "one.jpg"
    shutil.copy(next(images.glob("9 *.jpg")), file)
    words = [str(tiny_model), str(file), "--output", "answers", "--overwrite", "--top-k", "1"]
    done = run("-m", f"service.batch.{engine}", *words)
    assert done.returncode == 0, done.stderr
    with start_server(tiny_model) as server:
        answer = _answer(server, file)
    assert not isinstance(answer, str)
    labels, familiarity = answer
    assert written(output) == {str(file): (labels[:1], familiarity)}
    assert pq.read_table(output).schema.equals(schema(has_familiarity=False))


def test_an_output_that_exists(
    run: Engine, engine: str, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "answers").mkdir()
    command = ["-m", f"service.batch.{engine}", str(tiny_model), str(images)]
    done = run(*command, "--output", "answers")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == "answers is there already: give --overwrite to begin anew"
    assert not list((tmp_path / "answers").iterdir())


def test_a_source_that_is_not_there(run: Engine, engine: str, tiny_model: Path) -> None:
    done = run("-m", f"service.batch.{engine}", str(tiny_model), "nowhere", "--output", "answers")
    assert done.returncode == 2
    assert "nowhere" in done.stderr.splitlines()[-1]
