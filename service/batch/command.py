"""``python -m service predict``: what is asked for, checked before anything is begun."""

import hashlib
import os
import signal
import stat
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import msgspec

from service.batch.errors import BatchError, Busy, Refused, Stopped
from service.batch.formats import CSV, FORMATS, PARQUET, header
from service.batch.journal import Identity, Journal, Progress
from service.batch.listing import Listing
from service.batch.lock import locked
from service.batch.outputs import (
    FileOutput,
    Output,
    PartsOutput,
    ReaderLeft,
    StandardOutput,
    remove,
    require_rows,
)
from service.batch.processes import Task, in_order, processes_for
from service.batch.progress import Display, Total, say
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
        that says why; 3 if it ended in the middle, likewise, or if another command writes to the
        output.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _predict(request)
    except (Refused, Busy, ModelError) as error:
        say(str(error))
        return _STOPPED if isinstance(error, Busy) else _REFUSED
    except BatchError as error:
        say(f"{error}{_advice(request)}")
        return _STOPPED
    except ReaderLeft:
        return _STOPPED
    except KeyboardInterrupt as error:
        number: int = error.args[0] if error.args else signal.SIGINT
        say(f"stopped by {signal.Signals(number).name}{_advice(request)}")
        return _BY_SIGNAL + number
    except Exception as error:  # noqa: BLE001  Python's status for it says that all was written
        say(f"{traceback.format_exc()}stopped by {type(error).__name__}{_advice(request)}")
        return _STOPPED


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
    listing = Listing(request.sources, request.lists)
    if request.output is not None:
        _require_place(request.output, form, [*request.sources, *request.lists])
    with locked(request.output) if request.output is not None else nullcontext():
        journal, progress = _begun(request, task)
        if progress.complete:
            say(f"{request.output} is complete")
        else:
            with closing(_opened(request, work.classifier, task, progress, journal)) as kept:
                _answer(listing, shard, task, work, kept)
            progress = kept.progress
    _tell(listing, progress)
    return _SOME_FAILED if progress.failed else 0


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
    except (BrokenProcessPool, MemoryError) as error:
        raise Stopped("a process was killed, or ran out of memory") from error
    finally:
        display.close()


def _tell(listing: Listing, progress: Progress) -> None:
    if listing.passed:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(listing.passed.items()))
        say(f"files passed over, as their names are not those of images: {counts}")
    if progress.failed:
        say(f"{progress.failed} of {progress.images} files could not be answered")


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
    for path in map(Path, lists):
        try:
            kind = path.stat().st_mode
            # A pipe is opened once: its writer would take the closing for the end.
            if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
                path.open("rb").close()
        except OSError as error:
            reason = error.strerror or error
            raise Refused(f"the list {path} cannot be read: {reason}") from error


def _require_place(output: Path, form: str, sources: Sequence[str]) -> None:
    """Raises Refused: nothing of this form can be written there, or it is a source."""
    if not output.parent.is_dir():
        reason = f"there is no folder {output.parent}"
    elif output.is_dir() and form != PARQUET:
        reason = "it is a folder"
    elif output.exists() and not (output.is_dir() or output.is_file()):
        reason = "it is neither a file nor a folder; rows go to standard output without --output"
    elif output.is_file() and any(_is_same(output, Path(source)) for source in sources):
        reason = "it is one of the sources"
    else:
        return
    raise Refused(f"{output} cannot be written: {reason}")


def _is_same(output: Path, source: Path) -> bool:
    return source.exists() and output.samefile(source)


def _begun(request: Request, task: Task) -> tuple[Journal | None, Progress]:
    """The output's journal, and what the output has already, or is to keep.

    Raises:
        Refused: it is there and may not be touched, or cannot be gone on with.
    """
    if request.output is None:
        return None, Progress()
    journal = Journal(request.output, _identity(request, task))
    progress = journal.read() if request.resume else None
    if progress is not None:
        require_rows(request.output, progress.size)
        return journal, progress
    if request.output.exists() and not request.overwrite:
        raise Refused(
            f"{request.output} is there already"
            + (", without a journal to go on by" if request.resume else "")
            + ": give --overwrite to begin anew"
            + ("" if request.resume else ", or --resume to go on with it")
        )
    return journal, Progress()


def _opened(
    request: Request,
    classifier: Classifier,
    task: Task,
    progress: Progress,
    journal: Journal | None,
) -> Kept:
    """The output, with no more in it than its progress.

    Raises:
        Refused: it cannot be made.
    """
    path = request.output
    if path is None or journal is None:
        return Kept(StandardOutput(), "standard output", progress)
    try:
        # First: an old journal would speak of what is removed.
        journal.write(progress)
        if request.overwrite:
            remove(path)
        if task.form == PARQUET:
            has_familiarity = classifier.card.familiarity is not None
            output: Output = PartsOutput(path, progress.size, has_familiarity=has_familiarity)
        else:
            output = FileOutput(path, progress.size)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror or error}") from error
    return Kept(output, str(path), progress, journal)


def _identity(request: Request, task: Task) -> Identity:
    return Identity(
        model=hashlib.sha256(task.model).hexdigest(),
        format=task.form,
        top_k=request.selection.top_k,
        min_probability=request.selection.min_probability,
        shard=request.shard,
        sources=[*map(_told, request.sources)],
        lists=[*map(_told, request.lists)],
    )


def _told(name: str) -> str:
    """A name as text that tells it from all others, also where its bytes are no text."""
    return os.fsencode(name).decode(errors="backslashreplace")
