"""``python -m service predict``: what is asked for, checked before anything is begun."""

import hashlib
import signal
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import msgspec

from service.batch.errors import BatchError, Refused, Stopped
from service.batch.formats import CSV, FORMATS, PARQUET, header
from service.batch.journal import Identity, Journal, Progress
from service.batch.listing import Listing
from service.batch.outputs import FileOutput, Output, PartsOutput, StandardOutput, remove
from service.batch.processes import Task, in_order, processes_for
from service.batch.progress import Display, Total
from service.batch.run import Kept, chunk_images, chunks, run, without_done
from service.batch.sharding import Shard
from service.batch.work import Work
from service.inference.classifier import Classifier, Selection
from service.inference.errors import ModelError
from service.inference.layout import default_file
from service.inference.model_files import read_model
from service.runtime.machine import Machine

_SOME_FAILED = 1
_REFUSED = 2
_STOPPED = 3
_BY_SIGNAL = 128


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What ``predict`` is asked for.

    ``sources`` and ``lists`` are as of ``Listing``. ``output``: None for standard output. ``form``:
    of ``formats.FORMATS``, None for what the output's name says. An ``output`` that exists is gone
    on with (``resume``), begun anew (``overwrite``), or refused. ``shard``: as of ``Shard.parse``.
    """

    model: Path
    sources: Sequence[str]
    lists: Sequence[str] = ()
    output: Path | None = None
    form: str | None = None
    selection: Selection = Selection()
    shard: str = "1/1"
    resume: bool = False
    overwrite: bool = False


def predict(request: Request) -> int:
    """Write an answer for each image, with progress on standard error.

    Returns:
        The exit status: 0; 1 if an image could not be answered; 2 if nothing was begun, with a line
        that says why; 3 if it ended in the middle, likewise.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _predict(request)
    except (Refused, ModelError) as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    except BatchError as error:
        sys.stderr.write(f"{error}{_advice(request)}\n")
        return _STOPPED
    except KeyboardInterrupt as error:
        number: int = error.args[0] if error.args else signal.SIGINT
        sys.stderr.write(f"stopped by {signal.Signals(number).name}{_advice(request)}\n")
        return _BY_SIGNAL + number


def _interrupt(number: int, _frame: object) -> NoReturn:
    """Process 1 of a container ignores signals without a handler."""
    raise KeyboardInterrupt(number)


def _advice(request: Request) -> str:
    return "" if request.output is None else "; --resume goes on where it ended"


def _predict(request: Request) -> int:
    form, shard = _form(request), Shard.parse(request.shard)
    _require_readable(request.lists)
    file = default_file(request.model)
    model = read_model(file)
    task = Task(model, str(file), request.selection, form)
    work = task.work()
    kept = _opened(request, form, model, work.classifier)
    listing = Listing(request.sources, request.lists)
    try:
        if kept.progress.complete:
            sys.stderr.write(f"{request.output} is complete\n")
        else:
            _answer(listing, shard, task, work, kept)
    finally:
        kept.close()
    _tell(listing, kept.progress)
    return _SOME_FAILED if kept.progress.failed else 0


def _answer(listing: Listing, shard: Shard, task: Task, work: Work, kept: Kept) -> None:
    """Write the rows that the output does not have yet."""
    first = header(task.form, work.classifier)
    if first and not kept.progress.size:
        kept.write(first)
    mine = (one for one in listing if shard.has(one.name))
    names = without_done(mine, kept.progress)
    pieces = chunks(mine, chunk_images(work.classifier.seconds_per_image))
    done = in_order(pieces, task, work, processes_for(Machine.measure(), len(task.model)))
    display = Display(Total(listing, shard), kept.progress.images)
    try:
        run(done, kept, names, display)
    except BrokenProcessPool as error:
        raise Stopped("a process was killed, or ran out of memory") from error
    finally:
        display.close()


def _tell(listing: Listing, progress: Progress) -> None:
    if listing.passed:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(listing.passed.items()))
        sys.stderr.write(f"files passed over, as their names are not those of images: {counts}\n")
    if progress.failed:
        sys.stderr.write(f"{progress.failed} of {progress.images} files could not be answered\n")


def _form(request: Request) -> str:
    """The output's format.

    Raises:
        Refused: the name does not tell it, or it cannot be written.
    """
    form = request.form
    if form is None and request.output is not None:
        form = request.output.suffix.lower().removeprefix(".")
        if form not in FORMATS:
            raise Refused(
                f"the name {request.output} does not tell a format: let it end with"
                f" {', '.join(f'.{one}' for one in FORMATS)}, or give --format"
            )
    if form == PARQUET:
        if request.output is None:
            raise Refused("Parquet cannot go to standard output: give --output FOLDER.parquet")
        if find_spec("pyarrow") is None:
            raise Refused(
                f"Parquet needs pyarrow, which is not installed for {sys.executable}:"
                " pip install --require-hashes -r requirements/parquet.txt"
            )
    return form or CSV


def _require_readable(lists: Sequence[str]) -> None:
    for path in lists:
        try:
            Path(path).open("rb").close()
        except OSError as error:
            reason = error.strerror or error
            raise Refused(f"the list {path} cannot be read: {reason}") from error


def _opened(request: Request, form: str, model: bytes, classifier: Classifier) -> Kept:
    """The output, and what it has already.

    Raises:
        Refused: it is there and may not be touched, or cannot be gone on with, or cannot be made.
    """
    if request.output is None:
        return Kept(StandardOutput(), "standard output", Progress())
    journal = Journal(request.output, _identity(request, form, model))
    try:
        progress = _progress(request, request.output, form, journal)
        journal.write(progress)
        if form == PARQUET:
            has_familiarity = classifier.card.familiarity is not None
            output: Output = PartsOutput(
                request.output, progress.size, has_familiarity=has_familiarity
            )
        else:
            output = FileOutput(request.output, progress.size)
    except OSError as error:
        reason = error.strerror or error
        raise Refused(f"{request.output} cannot be written: {reason}") from error
    return Kept(output, str(request.output), progress, journal)


def _progress(request: Request, output: Path, form: str, journal: Journal) -> Progress:
    """What the output has already; afterwards there is none, or one that can be gone on with."""
    if not output.parent.is_dir():
        raise Refused(f"{output} cannot be written: there is no folder {output.parent}")
    if output.is_dir() and form != PARQUET:
        raise Refused(f"{output} cannot be written: it is a folder")
    if request.overwrite:
        remove(output)
        return Progress()
    progress = journal.read() if request.resume else None
    if progress is not None:
        return progress
    if output.exists():
        raise Refused(
            f"{output} is there already"
            + (", without a journal to go on by" if request.resume else "")
            + ": give --overwrite to begin anew"
            + ("" if request.resume else ", or --resume to go on with it")
        )
    return Progress()


def _identity(request: Request, form: str, model: bytes) -> Identity:
    return Identity(
        model=hashlib.sha256(model).hexdigest(),
        format=form,
        top_k=request.selection.top_k,
        min_probability=request.selection.min_probability,
        shard=request.shard,
        sources=[*request.sources],
        lists=[*request.lists],
    )
