"""python -m service: serve models, predict offline, read cards, move labels, describe the API."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from service.arguments import SERVE_ARGUMENTS, parsed
from service.runtime.processor import missing_instructions

if TYPE_CHECKING:
    from service.batch.command import Request

_CANNOT_START = 2


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    # numpy's BLAS would start a thread per core; it reads this at its import.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _use_utf8()
    chosen = parsed(arguments)
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
        from service.commands.card import print_card

        return partial(_while_read, print_card, chosen.model)
    if chosen.command == "models":
        from service.commands.models import run

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

    given = {name: getattr(chosen, name, None) for name in SERVE_ARGUMENTS}
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


if __name__ == "__main__":
    sys.exit(main())
