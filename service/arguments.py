"""The command line of ``python -m service``: its commands and their arguments."""

import argparse
import math
from pathlib import Path

_ABOUT = "Serve models, predict offline, read cards, move labels, describe the API."
# Arguments of ``serve``: settings by their names.
SERVE_ARGUMENTS = {
    "host": ("HOST", "address to listen on, or unix:PATH (LABELSERVE_HOST)"),
    "port": ("PORT", "port to listen on (PORT)"),
    "model": (
        "PATH",
        "an .onnx file with its card, or a folder of it, versions or models (LABELSERVE_MODEL)",
    ),
    "name": ("NAME", "the model's name in paths; of several, the one without (LABELSERVE_NAME)"),
}


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command and what it is told, by these words or the process' own.

    Exits with a line where they are wrong, or with the help that they ask for.
    """
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # Sources may stand behind options; argparse has given what is in front of them.
    front, behind = _divided(rest)
    if chosen.command == "predict" and not any(word.startswith("-") and word[1:] for word in front):
        chosen.sources += front + behind
        if not chosen.sources and not chosen.lists:
            parser.error("predict needs images: a SOURCE, or a list of names with --from")
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return chosen


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """Words in front of ``--``, and those behind it, which are no options whatever they are."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=_ABOUT)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP (the default); set up by LABELSERVE_* variables and PORT",
        description="Answer over HTTP. An argument wins over the variable that its help names;"
        " docs/settings.md has all variables.",
        allow_abbrev=False,
    )
    for name, (value, meaning) in SERVE_ARGUMENTS.items():
        serve.add_argument(f"--{name}", metavar=value, help=meaning)
    _add_predict(commands)
    card = commands.add_parser("card", help="what a model file says about itself, as JSON")
    card.add_argument(
        "model", type=Path, metavar="MODEL", help="an .onnx file, or a folder of versions"
    )
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
    label.add_argument("version", type=whole_number, metavar="VERSION", help="its number")
    rollback.add_argument("label", nargs="?", default="stable", metavar="LABEL", help="stable")


def _add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    predict = commands.add_parser(
        "predict",
        help="the same answers for files, without HTTP: one, or ten million",
        description="Answer images without HTTP, on all cores; docs/offline.md has the rest.",
        allow_abbrev=False,
    )
    predict.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="an .onnx file with its card, or a folder of versions",
    )
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
    predict.add_argument(
        "--format",
        choices=("csv", "jsonl", "parquet"),
        help="default: by the name of --output; csv on standard output",
    )
    predict.add_argument(
        "--top-k", type=whole_number, metavar="N", help="only the N most probable labels"
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


def whole_number(text: str) -> int:
    """A number of at least 1. Raises ArgumentTypeError: it is none."""
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
