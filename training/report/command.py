"""`report` and `explain`: words → options → one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.inference.errors import ImageError
from training.errors import DataError, ExportError
from training.parser import Parser

if TYPE_CHECKING:
    from training.report.results import Log


def report(words: Sequence[str]) -> None:
    """Show in one HTML page what a model file does on a folder of images."""
    parser = Parser(
        "python -m training report",
        description="One self-contained HTML page: accuracy, calibration, confusions, the surest "
        "mistakes, important pixels, activations and filters. All of it comes from the model file "
        "and the images; only curves over time need the run folder.",
    )
    _add_model(parser, "report.html")
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
        "if there is one)",
    )
    options = parser.parse_args(words)
    _require_page(options.output)
    from training.report import build, results  # --help needs none of it

    log: Log | None = None
    default = options.model.with_suffix("")
    if options.run is not None:
        log = results.read_log(options.run)
    elif (default / results.LOG).is_file():
        log = results.read_log(default)
    build.report(options.model, options.data, log, options.output)


def explain(words: Sequence[str]) -> None:
    """Show in one HTML page what a model file sees in an image."""
    parser = Parser(
        "python -m training explain",
        description="One self-contained HTML page on one image: the answer, the pixels that it "
        "hangs on, and what each layer makes of it.",
    )
    _add_model(parser, "explain.html")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="any image file")
    options = parser.parse_args(words)
    _require_page(options.output)
    try:
        data = options.image.read_bytes()
    except OSError as error:
        raise DataError(f"image {options.image} cannot be read: {error.strerror}") from error
    from training.report import build  # --help needs none of it

    try:
        build.explain(options.model, data, options.image.name, options.output)
    except ImageError as error:
        raise DataError(f"image {options.image} cannot be read: {error}") from error


def _add_model(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="the .onnx file")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(output),
        metavar="PATH",
        help=f"the page to write (default: {output})",
    )


def _require_page(path: Path) -> None:
    """Refuse at once what would be found out after minutes."""
    if path.is_dir():
        raise ExportError(f"page {path} cannot be written: it is a folder")
