"""`report` and `explain`: words → options → one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.inference.errors import ImageError
from training.atomic_files import require_writable
from training.config import run_folders
from training.errors import DataError
from training.options import Parser

if TYPE_CHECKING:
    from training.report.results import Log


def report(words: Sequence[str]) -> None:
    """Show in one HTML page what a model file does on a folder of images."""
    parser = Parser(
        "python -m training report",
        description="One self-contained HTML page: accuracy, calibration, confusions, the surest "
        "mistakes, important pixels, activations and filters. All of it comes from the model file "
        "and the images; only curves over time need the run folder. Several models are compared "
        "on the same images first.",
    )
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL", help="the .onnx file, or several"
    )
    _add_output(parser, "report.html")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="image folder; one with train/ and test/ gives its test images",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="PATH",
        help="folder with the training's log.csv (the model's path without its suffix, "
        "if there is one); for one model only",
    )
    options = parser.parse_args(words)
    if options.run is not None and len(options.models) > 1:
        parser.error("argument --run: with several models, each one's is looked for beside it")
    require_writable(options.output, "page")
    from training.report import pages  # --help needs none of it

    models = [(model, _log_of(model, options.run)) for model in options.models]
    pages.report(models, options.data, options.output)


def _log_of(model: Path, run: Path | None) -> Log | None:
    from training.report import results  # --help needs none of it

    if run is not None:
        return results.read_log(run)
    found = next((f for f in run_folders(model) if (f / results.LOG).is_file()), None)
    return None if found is None else results.read_log(found)


def explain(words: Sequence[str]) -> None:
    """Show in one HTML page what a model file sees in an image."""
    parser = Parser(
        "python -m training explain",
        description="One self-contained HTML page on one image: the answer, the pixels that it "
        "depends on, and the maps of each layer.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the .onnx file")
    _add_output(parser, "explain.html")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="any image file")
    options = parser.parse_args(words)
    require_writable(options.output, "page")
    try:
        data = options.image.read_bytes()
    except OSError as error:
        raise DataError(f"image {options.image} cannot be read: {error.strerror}") from error
    from training.report import pages  # --help needs none of it

    try:
        pages.explain(options.model, data, options.image.name, options.output)
    except ImageError as error:
        raise DataError(f"image {options.image} cannot be read: {error}") from error


def _add_output(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="PATH",
        help=f"the page to write (default: {output})",
    )
