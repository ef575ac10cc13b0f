"""A job for a cluster as a command: what it is told, and what it says."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from service.arguments import whole_number
from service.batch.errors import Refused
from service.batch.predictor import Predictor
from service.inference.classifier import Selection
from service.inference.errors import ModelError

_REFUSED = 2


class Job(NamedTuple):
    """A model, where the images lie, and where the answers go: places as the engine knows them."""

    predictor: Predictor
    sources: list[str]
    output: str
    overwrite: bool


class Written(NamedTuple):
    """How many images have got an answer, and how many a problem."""

    answered: int
    problems: int


def run(engine: str, work: Callable[[Job], Written], arguments: Sequence[str] | None = None) -> int:
    """Do a job as the command line says.

    Args:
        engine: the name of its module here.
        work: does the job. Raises Refused where it cannot begin, ModuleNotFoundError without the
            engine, and what the engine raises where it fails.
        arguments: the command line's, if it is another than this process's.

    Returns:
        The exit status: 0, images with problems or not; 2 if nothing was begun, with a line that
        says why.
    """
    chosen = _parser(engine).parse_args(arguments)
    try:
        _require_sources_kept(chosen.sources, chosen.output)
        predictor = Predictor.load(chosen.model, Selection(chosen.top_k))
        written = work(Job(predictor, chosen.sources, chosen.output, chosen.overwrite))
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed for {sys.executable}"
        return _ended(_REFUSED, f"{reason}: see docs/offline.md#ray-and-spark")
    except (ModelError, Refused) as error:
        return _ended(_REFUSED, str(error))
    images = written.answered + written.problems
    return _ended(0, f"{images} images, {written.problems} of them with a problem: {chosen.output}")


def exists(job: Job) -> Refused:
    """That there is something in the output's place."""
    return Refused(f"{job.output} is there already: give --overwrite to begin anew")


def _require_sources_kept(sources: Sequence[str], output: str) -> None:
    """Raises Refused: the output is a source or has one in it, which --overwrite would remove."""
    for source in sources:
        if _place(source).is_relative_to(_place(output)):
            raise Refused(f"the output {output} has the source {source} in it: name another folder")


def _place(text: str) -> PurePath:
    """A path, or a URL by its parts."""
    path = text.removeprefix("file:")
    return PurePath(path) if "://" in path else Path(path).resolve()


def _ended(status: int, line: str) -> int:
    sys.stderr.write(f"{line}\n")
    return status


def _parser(engine: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m service.batch.{engine}",
        description="Predictions of all images in the sources, as Parquet files in a folder.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file with its card")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="folders, files or URLs")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new folder, or a URL")
    parser.add_argument(
        "--overwrite", action="store_true", help="remove all that the folder has first"
    )
    parser.add_argument(
        "--top-k", type=whole_number, metavar="N", help="only the N most probable labels"
    )
    return parser
