"""python -m service: serve models, predict offline, read cards, move labels, describe the API."""

import argparse
import io
import math
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.batch.command import Request

from service.runtime.processor import missing_instructions

_CANNOT_START = 2
# Arguments of ``serve``: settings by their names.
_SERVE_ARGUMENTS = {
    "host": ("HOST", "address to listen on, or unix:PATH (LABELSERVE_HOST)"),
    "port": ("PORT", "port to listen on (PORT)"),
    "model": (
        "PATH",
        "an .onnx file with its card, or a folder of it, versions or models (LABELSERVE_MODEL)",
    ),
    "name": ("NAME", "the model's name in /v1 and /v2 (LABELSERVE_NAME)"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    # numpy's BLAS would start a thread per core; it reads this at its import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _use_utf8()
    chosen = _chosen(arguments)
    # Before anything is imported that would end the process at once (SIGILL).
    if missing := missing_instructions():
        sys.stderr.write(f"cannot start: {_what_it_lacks(missing)}\n")
        return _CANNOT_START
    try:
        command = _imported(chosen)
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"cannot start: {_what_is_missing(error)}\n")
        return _CANNOT_START
    return command()


def _imported(chosen: argparse.Namespace) -> Callable[[], int]:
    """A command, once all that it needs is imported."""
    if chosen.command == "predict":
        from service.batch.command import predict

        return partial(_while_read, predict, _request(chosen))
    if chosen.command == "card":
        from service.serving.card import print_card

        return partial(_while_read, print_card, chosen.model)
    if chosen.command == "models":
        from service.serving.model_commands import run

        return partial(_while_read, run, chosen)
    if chosen.command == "openapi":
        from service.http.openapi.document import print_document

        return partial(_while_read, print_document)
    # Process 1 of a container ignores signals without a handler; gunicorn sets its own later.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # gunicorn takes a default from it at its import, and fails there if it is no number.
    os.environ.pop("WEB_CONCURRENCY", None)
    # gunicorn would import the workers later, and show a traceback of what is missing.
    from service.server import application, gthread, worker  # noqa: F401

    given = {name: getattr(chosen, name, None) for name in _SERVE_ARGUMENTS}
    return partial(
        application.serve, {name: text for name, text in given.items() if text is not None}
    )


def _request(chosen: argparse.Namespace) -> "Request":
    from service.batch.command import Request
    from service.inference.classifier import Selection

    return Request(
        model=chosen.model,
        sources=chosen.sources,
        lists=chosen.lists,
        output=chosen.output,
        form=chosen.format,
        selection=Selection(chosen.top_k, chosen.min_probability),
        shard=chosen.shard,
        resume=chosen.resume,
        overwrite=chosen.overwrite,
    )


def _what_it_lacks(instructions: list[str]) -> str:
    """One line about a processor that is too old."""
    return (
        "the processor, real or virtual, is too old: numpy needs x86-64-v2, and it lacks"
        f" {', '.join(instructions)}. Of a virtual machine, choose `host` or `x86-64-v2` as the"
        " processor; see docs/container.md#the-least-processor"
    )


def _what_is_missing(error: ImportError | RuntimeError) -> str:
    """One line about a package that is not there or does not run here."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the package {error.name} is not installed for {sys.executable};"
            " `make serve` installs everything into .venv-serve, use .venv-serve/bin/python"
        )
    # numpy wraps the reason into a page of advice.
    reason = " ".join(str(error.__cause__ or error).split())
    return (
        f"a package cannot be imported: {reason.removesuffix('.')}. The system lacks a library,"
        " or its processor, real or virtual, is too old; see docs/container.md#the-least-processor"
    )


def _use_utf8() -> None:
    """Write UTF-8 to files and pipes, whatever the system's code page; to a terminal, its own.

    What a terminal cannot show is written as its number, instead of ending the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _while_read(command: Callable[..., int], *arguments: object) -> int:
    """Run a command whose output may go to a reader that stops early (``| head``)."""
    try:
        status = command(*arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try to write the rest of the buffer at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return int(text)


def _probability(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to 1, such as 0.2")
    return number


def _chosen(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # Sources may stand behind options; argparse has given what is in front of them.
    if chosen.command == "predict" and not any(word.startswith("-") and word[1:] for word in rest):
        chosen.sources += rest
        if not chosen.sources and not chosen.lists:
            parser.error("predict needs images: a SOURCE, or a list of names with --from")
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP (the default); set up by LABELSERVE_* variables and PORT",
        description="Answer over HTTP. An argument wins over the variable that its help names;"
        " docs/settings.md has all variables.",
        allow_abbrev=False,
    )
    for name, (value, meaning) in _SERVE_ARGUMENTS.items():
        serve.add_argument(f"--{name}", metavar=value, help=meaning)
    _add_predict(commands)
    card = commands.add_parser("card", help="what a model file says about itself, as JSON")
    card.add_argument("model", type=Path, metavar="MODEL")
    _add_models(commands.add_parser("models", help="versions of models, and their labels"))
    commands.add_parser(
        "openapi", help="the HTTP API of these settings as OpenAPI 3.1, to make clients from"
    )
    return parser


def _add_models(models: argparse.ArgumentParser) -> None:
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="all versions, their labels, and whether they open")
    label = actions.add_parser("label", help="have a label lead to a version, in one step")
    rollback = actions.add_parser("rollback", help="have a label lead to where it led before")
    listed.add_argument("path", type=Path, metavar="PATH", help="a folder of versions or models")
    for action in (label, rollback):
        action.add_argument("path", type=Path, metavar="PATH", help="a folder of versions")
    label.add_argument("label", metavar="LABEL", help="such as stable or canary")
    label.add_argument("version", type=_whole_number, metavar="VERSION", help="its number")
    rollback.add_argument("label", nargs="?", default="stable", metavar="LABEL", help="stable")


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    predict = commands.add_parser(
        "predict",
        help="the same answers for files, without HTTP: one, or ten million",
        description="Answer images without HTTP, on all cores; docs/offline.md has the rest.",
        allow_abbrev=False,
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file with its card")
    predict.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="images, folders, quoted patterns ('photos/**/*.jpg'), tar and zip archives; - reads"
        " names from standard input",
    )
    predict.add_argument(
        "--from",
        dest="lists",
        action="append",
        default=[],
        metavar="LIST",
        help="a file of names, a line or a NUL-terminated string each",
    )
    predict.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write (default: standard output); .csv, .jsonl or .parquet, a folder",
    )
    predict.add_argument("--format", choices=("csv", "jsonl", "parquet"), help="default: csv")
    predict.add_argument(
        "--top-k", type=_whole_number, metavar="N", help="only the N most probable labels"
    )
    predict.add_argument(
        "--min-probability",
        type=_probability,
        default=0.0,
        metavar="P",
        help="only labels with at least this probability, 0 to 1",
    )
    predict.add_argument(
        "--shard",
        default="1/1",
        metavar="N/COUNT",
        help="only the images of one part of all: 3/8 is the third of eight",
    )
    again = predict.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on with an output that was begun, if it was"
    )
    again.add_argument("--overwrite", action="store_true", help="begin an output anew")


if __name__ == "__main__":
    sys.exit(main())
