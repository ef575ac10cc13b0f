"""The command line: words → options → one call; an error → one line and a status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from service.inference.errors import InferenceError
from training.adoption.options import adoption_parser
from training.autoconfig import complete
from training.config import from_options
from training.errors import ConfigError, Stopped, TrainingError
from training.options import Parser, add_options, read_toml
from training.progress import say, use_utf8
from training.report.command import explain, report

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main(words: Sequence[str]) -> int:
    """Run one command and return the exit status; `train` is understood where none is named."""
    use_utf8()
    is_named = words and not words[0].startswith("-")
    name, rest = (words[0], words[1:]) if is_named else ("train", words)
    try:
        if name not in COMMANDS:
            raise ConfigError(f"{name!r} is not one of the commands: {', '.join(COMMANDS)}")
        COMMANDS[name](rest)
    except (Stopped, KeyboardInterrupt) as stop:
        say(str(stop) or "stopped")
        return INTERRUPTED
    except (TrainingError, InferenceError) as error:
        say(f"error: {error}")
        return MISUSED if isinstance(error, ConfigError) else FAILED
    return 0


def train(words: Sequence[str]) -> None:
    """Train and write one model file."""
    parser = Parser(
        "python -m training",
        description="Train a network on labelled images and write one ONNX file that the service "
        "serves: graph, labels and measured figures together.",
        epilog="Other commands, each with --help. "
        + " ".join(f"{name}: {run.__doc__}" for name, run in COMMANDS.items() if run is not train),
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a TOML file of options, such as the run.toml of a run folder; what is given on the "
        "command line wins",
    )
    add_options(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true", help="go on with a stopped run of the same settings"
    )
    group.add_argument(
        "--restart", action="store_true", help="throw a stopped run away and start anew"
    )
    options = vars(parser.parse_args(words))
    resume, restart, file = (options.pop(name) for name in ("resume", "restart", "config"))
    if file is not None:
        options = {**read_toml(file), **options}
    options, undecided = complete(options)
    config = from_options(options)
    from training.pipeline import train as run  # --help needs none of it

    run(config, undecided=undecided, resume=resume, restart=restart)


def evaluate(words: Sequence[str]) -> None:
    """Measure a model file on a folder of images."""
    parser = Parser(
        "python -m training evaluate",
        description="Accuracy, calibration error and per-label figures of a model file, through "
        "the service's own code. A folder with train/ and test/ gives its test images, and images "
        "that the model was trained on are left out.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the .onnx file")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="image folder")
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable image")
    parser.add_argument("--json", action="store_true", help="figures as JSON, as on the card")
    options = parser.parse_args(words)
    from training.export import evaluation  # --help needs none of it

    found = evaluation.evaluate(options)
    if not options.json:
        _print(evaluation.table(found))
        return
    margin = evaluation.interval(found)
    _print(_pretty({**msgspec.structs.asdict(found), "accuracy_interval": margin}))


def adopt(words: Sequence[str]) -> None:
    """Make a served model of one from elsewhere."""
    parser = adoption_parser()
    options = parser.parse_args(words)
    from training.adoption.adopting import adopt as run  # --help needs none of it

    run(options, [*words])


def familiarity(words: Sequence[str]) -> None:
    """Give a model file what it was made without: familiarity, the curve, examples."""
    parser = Parser(
        "python -m training familiarity",
        description="Add the output `familiarity` to a model file that was made without it, or "
        "make it anew; measure on the test images how many answers are right, by how sure they "
        "are. Its probabilities stay as they are. Models that are trained or adopted with --data "
        "have both from the start.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the .onnx file")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="the folder it was trained on"
    )
    parser.add_argument(
        "--strangers",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="images of something else: how well each folder's are told from the test images is "
        "measured for the card",
    )
    parser.add_argument(
        "--examples",
        action=argparse.BooleanOptionalAction,
        help="put ten small test images into the file, or leave them out (if not given, CIFAR-10's "
        "are put in, and others stay as they are)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the file to write (default: MODEL itself)"
    )
    options = parser.parse_args(words)
    from training.export.retrofit import add_familiarity  # --help needs none of it

    add_familiarity(options)


def benchmark(words: Sequence[str]) -> None:
    """Train the documented networks on CIFAR-10 and print their table (hours)."""
    from training.benchmark import ROWS  # needs no TensorFlow yet
    from training.benchmark import benchmark as run

    parser = Parser("python -m training benchmark", description=benchmark.__doc__)
    parser.add_argument("--data", type=Path, metavar="PATH", help="CIFAR-10 as files (or download)")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[*ROWS],
        metavar="NAME",
        help=f"some of: {', '.join(ROWS)} (default: all)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="(default: 0 1)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/benchmark"),
        metavar="PATH",
        help="for models and run folders (default: runs/benchmark)",
    )
    for name in ("--max-minutes", "--epochs"):
        kind = int if name == "--epochs" else float
        parser.add_argument(name, type=kind, metavar="N", help="of every row, for a try (in try/)")
    _print(run(parser.parse_args(words)))


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "adopt": adopt,
    "evaluate": evaluate,
    "familiarity": familiarity,
    "benchmark": benchmark,
    "report": report,
    "explain": explain,
}


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
