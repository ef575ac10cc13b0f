"""What `python -m service predict` was before it used all cores: one image at a time.

Kept as it was, for `tests.benchmarks.offline` to compare with. Nothing else uses it.
"""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from tqdm import tqdm

from service.inference.classifier import Classifier, Outputs, Prediction, Selection
from service.inference.errors import ImageError, InvalidAnswer, ModelError
from service.inference.imaging import decode_image
from service.runtime.machine import available_cores
from service.serving.problems import Problem, problem_of


class Ranked(NamedTuple):
    """A file's predictions; its familiarity and whether it is unfamiliar, None without them."""

    predictions: list[Prediction]
    familiarity: float | None = None
    unfamiliar: bool | None = None


Result = Ranked | Problem

_SOME_FAILED = 1
_NO_MODEL = 2


class _Output(Protocol):
    def write(self, text: str, /) -> Any: ...


def predict_files(model: Path, files: list[Path], form: str, top_k: int | None) -> int:
    """Write an answer for each file to standard output, with a progress bar on standard error.

    Returns:
        The exit status: 0, 1 if a file could not be answered, 2 if the model cannot be used.
    """
    classifier = _opened(model)
    if classifier is None:
        return _NO_MODEL
    write = (csv_writer if form == "csv" else jsonl_writer)(sys.stdout, classifier)
    failed = 0
    for file, result in tqdm(
        results(classifier, files, Selection(top_k)),
        total=len(files),
        unit="image",
        nrows=24,  # not asked of the terminal: one that says 0 would get no bar
        disable=not sys.stderr.isatty(),
    ):
        write(file, result)
        failed += isinstance(result, Problem)
    if failed:
        sys.stderr.write(f"{failed} of {len(files)} files could not be answered\n")
    return _SOME_FAILED if failed else 0


def results(
    classifier: Classifier, files: list[Path], selection: Selection
) -> Iterator[tuple[Path, Result]]:
    """Each file with its predictions, or with what is wrong with it."""
    for file in files:
        try:
            image = decode_image(
                file.read_bytes(), classifier.input_size, classifier.card.input.resize
            )
            ranked = _ranked(classifier, classifier.run(image.pixels[None]), selection)
        except (ImageError, InvalidAnswer) as error:
            yield file, problem_of(error)
        except OSError as error:
            yield file, _unreadable(error)
        else:
            yield file, ranked


def _ranked(classifier: Classifier, outputs: Outputs, selection: Selection) -> Ranked:
    """Of the outputs for one image."""
    predictions = classifier.rank(outputs.probabilities[0], selection)
    if outputs.familiarity is None:
        return Ranked(predictions)
    (share,) = outputs.familiarity
    return Ranked(predictions, share, classifier.is_unfamiliar(share))


def csv_writer(output: _Output, classifier: Classifier) -> Any:
    """Rows of file, rank, label, probability, problem: one a label, or one for a problem.

    Of a model that has it, familiarity is one column more.
    """
    rows = csv.writer(output, lineterminator="\n")
    has_familiarity = classifier.card.familiarity is not None
    more = ["familiarity"] * has_familiarity
    rows.writerow(["file", "rank", "label", "probability", "problem", *more])

    def write(file: Path, result: Result) -> None:
        if isinstance(result, Problem):
            rows.writerow([_name(file), "", "", "", result.detail, *[""] * has_familiarity])
            return
        more = [result.familiarity] * has_familiarity
        for rank, one in enumerate(result.predictions, start=1):
            rows.writerow([_name(file), rank, one.label, one.probability, "", *more])

    return write


def jsonl_writer(output: _Output, classifier: Classifier) -> Any:
    """One object a file: as over HTTP, with the file's name."""
    model = {"name": classifier.card.name, "version": classifier.card.version}

    def write(file: Path, result: Result) -> None:
        found: dict[str, Any] = (
            {"problem": result} if isinstance(result, Problem) else result._asdict()
        )
        told = {name: value for name, value in found.items() if value is not None}
        line = msgspec.json.encode({"file": _name(file), "model": model, **told})
        output.write(line.decode() + "\n")

    return write


def _name(file: Path) -> str:
    """A file's name as text; bytes that are no text become U+FFFD."""
    return os.fsencode(file).decode(errors="replace")


def _opened(model: Path) -> Classifier | None:
    try:
        return Classifier.load(model, threads=max(1, int(available_cores())))
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return None


def _unreadable(error: OSError) -> Problem:
    return Problem(
        type="about:blank",
        title="The file cannot be read",
        status=404,
        detail=f"the file cannot be read: {error.strerror or error}",
    )


if __name__ == "__main__":
    sys.exit(predict_files(Path(sys.argv[1]), [*map(Path, sys.argv[2:])], "csv", None))
