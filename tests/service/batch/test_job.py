"""A job for a cluster as a command: its exit status, and the one line that it says."""

import importlib
from pathlib import Path

import pytest

from service.batch.errors import Refused
from service.batch.job import Job, Written, run


def test_what_it_is_told_and_says(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Job] = []

    def work(job: Job) -> Written:
        told.append(job)
        return Written(answered=7, problems=3)

    words = [str(tiny_model), "s3://images/a", "b", "--output", "answers", "--top-k", "1"]
    assert run("ray", work, [*words, "--overwrite"]) == 0
    (job,) = told
    assert (job.sources, job.output, job.overwrite) == (["s3://images/a", "b"], "answers", True)
    assert job.predictor.selection.top_k == 1
    assert capsys.readouterr().err == "10 images, 3 of them with a problem: answers\n"


def test_a_job_that_cannot_be_done(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(_job: Job) -> Written:
        raise Refused("there are no images in a")

    assert run("ray", work, [str(tiny_model), "a", "--output", "answers"]) == 2
    assert capsys.readouterr().err == "there are no images in a\n"


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("photos", "photos"),
        ("photos/cats", "./photos"),
        ("photos/*.jpg", "photos/"),
        ("file:{here}/photos/1.jpg", "."),
        ("photos", "file://{here}/photos"),
        ("link/cats", "photos"),
        ("s3://bucket/photos/cats", "s3://bucket/photos"),
    ],
)
def test_an_output_with_a_source_in_it_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    output: str,
) -> None:
    """--overwrite would remove the images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    source, output = (one.format(here=tmp_path) for one in (source, output))

    def work(_job: Job) -> Written:
        raise AssertionError

    assert run("ray", work, ["m.onnx", source, "--output", output, "--overwrite"]) == 2
    assert capsys.readouterr().err == (
        f"the output {output} has the source {source} in it: name another folder\n"
    )


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("photos", "photos/answers"),
        ("photos", "photo"),
        ("s3://photos", "photos"),
        ("s3://a/photos", "s3://b/photos"),
    ],
)
def test_an_output_beside_the_sources_is_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("ray", lambda _: Written(1, 0), [str(tiny_model), source, "--output", output]) == 0


def test_a_model_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(_job: Job) -> Written:
        raise AssertionError

    assert run("ray", work, [str(tmp_path / "none.onnx"), "a", "--output", "answers"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("model file ")
    assert "none.onnx cannot be read" in line


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("spark", "pyspark")])
def test_an_engine_that_is_not_installed(
    engine: str, package: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests' own environment has neither."""
    module = importlib.import_module(f"service.batch.{engine}")
    assert run(engine, module._work, [str(tiny_model), "a", "--output", "answers"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"{package} is not installed for ")
    assert line.count("\n") == 1
