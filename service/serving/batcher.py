"""Dynamic batching: images that are ready at the same moment go through the network together.

No image waits for others to come: a batch is what is there. Under an event loop, small images are
decoded and predicted on the loop itself, where handing them to a thread would cost more than the
work. Large files are opened and large images decoded by threads; they join the next batch. A slow
network runs in a thread of its own, so that the loop can answer probes. Without an event loop
(gthread, or Flask's test client), the threads that wait for an answer take turns at the network.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import msgspec

from service.inference.classifier import Classifier, Selection
from service.inference.errors import ImageError, InvalidAnswer
from service.serving.answers import BatchPredictions, FileResult, ModelVersion, Predictions
from service.serving.context import RequestContext
from service.serving.errors import BodyTooLarge, MissingImage, TooManyFiles, UnsupportedCoding
from service.serving.parameters import parse_selection
from service.serving.pipeline import Decoded, Outcome, Pipeline, PredictRequest
from service.serving.problems import problem_of
from service.serving.uploads import NO_FILE, Upload, uploads

T = TypeVar("T")

_LOG = logging.getLogger("labelserve")

# An image with at most this many pixels is decoded in well under a millisecond.
SMALL_PIXELS = 100_000
# A file of at most this many bytes is opened, or refused, in well under a millisecond. Larger ones
# can hold a million chunks, thousands of scans or a bomb: a second of work before the first pixel.
SMALL_BYTES = 32_768
# How long one batch may keep the event loop.
TURN_SECONDS = 0.02


class EventLoop(Protocol):
    """What of an asyncio event loop is used here."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """From the loop's thread."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """From any thread."""


# The body of a 200, or what failed.
Answer = bytes | Exception
Done = Callable[[Outcome], None]

# What goes wrong for one file of a form, and for that one alone.
_OF_ONE_FILE = (ImageError, InvalidAnswer, BodyTooLarge, UnsupportedCoding)


class Batcher:
    """Runs the pipeline's phases for all requests of one worker.

    Args:
        pipeline: the phases.
        max_batch_size: images that go through the network together, at most.
        max_files: files of one form.
    """

    def __init__(self, pipeline: Pipeline, max_batch_size: int, max_files: int) -> None:
        self._pipeline = pipeline
        self._max_batch_size = max_batch_size
        self._max_files = max_files
        self._waiting: deque[tuple[Decoded, Done]] = deque()
        self._turn = threading.Lock()  # at the network, where there is no event loop
        self._loop: _OnLoop | None = None

    # ---- for a thread ------------------------------------------------------------------------

    def answer(self, request: PredictRequest) -> bytes:
        """The JSON body of a 200 for a request with one image.

        Raises:
            RequestError, ImageError: ``problems`` knows the status of each.
        """
        opened = self._pipeline.open(request)
        decoded = _result(self._pipeline.decode_in_turn(opened), request.context)
        (outcome,) = self._predict([decoded], request.context)
        answer = self._encoded(decoded.classifier, outcome)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer_many(self, request: PredictRequest) -> bytes:
        """The JSON body of a 200 for a form of images: one result for each file, in order.

        Raises:
            RequestError: the form cannot be used. What is wrong with one file is in its result.
        """
        classifier, selection = self._pipeline.models.current, parse_selection(request.query)
        files = uploads(request.body, request.content_type, self._max_files)
        if not files:
            raise MissingImage(NO_FILE)
        if len(files) > self._max_files:
            raise TooManyFiles(f"the form holds {len(files)} files, {self._max_files} are allowed")
        results: list[FileResult] = []
        for start in range(0, len(files), self._max_batch_size):
            some = files[start : start + self._max_batch_size]
            images = [
                self._decoded_file(one, classifier, selection, request.context) for one in some
            ]
            results += self._results(some, images, request.context)
        answer = BatchPredictions(ModelVersion.of(classifier), results)
        return msgspec.json.encode(answer)

    def _decoded_file(
        self, file: Upload, classifier: Classifier, selection: Selection, context: RequestContext
    ) -> Decoded | Exception:
        try:
            opened = self._pipeline.open_image(file.image(), classifier, selection, context)
            return _result(self._pipeline.decode_in_turn(opened), context)
        except _OF_ONE_FILE as error:
            return error

    def _results(
        self,
        files: Sequence[Upload],
        images: Sequence[Decoded | Exception],
        context: RequestContext,
    ) -> list[FileResult]:
        outcomes = iter(self._predict([one for one in images if isinstance(one, Decoded)], context))
        results: list[FileResult] = []
        for file, image in zip(files, images, strict=True):
            outcome = next(outcomes) if isinstance(image, Decoded) else image
            if isinstance(outcome, _OF_ONE_FILE):
                result = FileResult(file.filename, problem=problem_of(outcome))
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                result = FileResult(file.filename, outcome)
            results.append(result)
        return results

    def _predict(self, images: Sequence[Decoded], context: RequestContext) -> list[Outcome]:
        """Wait for the images' outcomes, not beyond the deadline."""
        futures: list[Future[Outcome]] = [Future() for _ in images]
        for image, future in zip(images, futures, strict=True):
            self._waiting.append((image, future.set_result))
        if self._loop is not None:
            self._loop.schedule(self._run_on_loop)
        else:
            self._take_turns(futures, context)
        return [_result(future, context) for future in futures]

    def _take_turns(self, futures: Sequence[Future[Outcome]], context: RequestContext) -> None:
        """Run batches, also for others, until the own images are done."""
        while not all(future.done() for future in futures):
            if not self._turn.acquire(timeout=context.remaining):
                context.check_wanted()
                continue
            try:
                if not all(future.done() for future in futures):
                    _deliver(self._run_batch())
            finally:
                self._turn.release()

    # ---- for an event loop -------------------------------------------------------------------

    def run_on(self, loop: EventLoop, openers: Executor) -> None:
        """Let an event loop run the batches from now on.

        Args:
            loop: an asyncio event loop.
            openers: threads that open large files.
        """
        self._loop = _OnLoop(loop, openers)

    def stop(self) -> None:
        """The event loop ends: what waits is not predicted any more."""
        if self._loop is not None:
            self._loop.network.shutdown(wait=False, cancel_futures=True)

    def submit(self, request: PredictRequest, done: Callable[[Answer], None]) -> None:
        """Answer a request with one image; called on the event loop, and never waits.

        Args:
            request: a whole request.
            done: called on the event loop, after this call has returned.
        """
        assert self._loop is not None, "run_on comes first"  # noqa: S101
        if len(request.body) > SMALL_BYTES:
            self._loop.openers.submit(self._open, request, done, time.monotonic())
        else:
            self._open(request, done)

    def _open(
        self,
        request: PredictRequest,
        done: Callable[[Answer], None],
        since: float | None = None,
    ) -> None:
        """Open an image, and decode it here if it is small; ``since``: when it was handed on."""
        assert self._loop is not None  # noqa: S101
        if since is not None:
            request.context.wait_since(since)
        try:
            opened = self._pipeline.open(request)
            if opened.image.source_pixels <= SMALL_PIXELS:
                self._add(self._pipeline.decode(opened), done)
            else:
                decoding = self._pipeline.decode_in_turn(opened)
                decoding.add_done_callback(partial(self._decoded, done))
        except Exception as error:  # noqa: BLE001  the client gets an answer
            self._loop.call_soon(partial(done, error))

    def _decoded(self, done: Callable[[Answer], None], decoding: Future[Decoded]) -> None:
        assert self._loop is not None  # noqa: S101
        error = decoding.exception()
        if isinstance(error, Exception):
            self._loop.call_soon(partial(done, error))
        else:
            self._add(decoding.result(), done)

    def _add(self, decoded: Decoded, done: Callable[[Answer], None]) -> None:
        assert self._loop is not None  # noqa: S101

        def encode(outcome: Outcome) -> None:
            done(self._encoded(decoded.classifier, outcome))

        self._waiting.append((decoded, encode))
        self._loop.schedule(self._run_on_loop)

    def _run_on_loop(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101
        loop.scheduled = False
        if not self._waiting:
            return
        if self._images_per_turn:
            _deliver(self._run_batch())
            if self._waiting:
                loop.schedule(self._run_on_loop)
        else:
            loop.network.submit(self._run_in_thread, loop)

    def _run_in_thread(self, loop: "_OnLoop") -> None:
        """A slow network: one image at a time, delivered on the loop."""
        while self._waiting:
            loop.call_soon(partial(_deliver, self._run_batch()))

    # ---- for both ----------------------------------------------------------------------------

    @property
    def _images_per_turn(self) -> int:
        """Images that the network takes in one turn; 0 if one is too slow for the event loop."""
        seconds = self._pipeline.models.current.seconds_per_image
        return min(self._max_batch_size, int(TURN_SECONDS / max(seconds, 1e-6)))

    def _run_batch(self) -> list[tuple[Done, Outcome]]:
        """Predict what waits, as much as one turn may take."""
        batch: list[tuple[Decoded, Done]] = []
        outcomes: list[tuple[Done, Outcome]] = []
        limit = max(1, self._images_per_turn)
        while self._waiting and len(batch) < limit:
            image, done = self._waiting.popleft()
            try:
                image.context.check_wanted()
            except Exception as error:  # noqa: BLE001
                outcomes.append((done, error))
            else:
                batch.append((image, done))
        found = self._pipeline.predict([image for image, _ in batch])
        outcomes += [(done, outcome) for (_, done), outcome in zip(batch, found, strict=True)]
        return outcomes

    def _encoded(self, classifier: Classifier, outcome: Outcome) -> Answer:
        if isinstance(outcome, Exception):
            return outcome
        try:
            return msgspec.json.encode(Predictions(ModelVersion.of(classifier), outcome))
        except Exception as error:  # noqa: BLE001  the client gets an answer
            return error


class _OnLoop:
    """An event loop that runs batches, and the threads beside it."""

    def __init__(self, loop: EventLoop, openers: Executor) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self.openers = openers
        self.network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.scheduled = False

    def schedule(self, run: Callable[[], None]) -> None:
        """Run a batch in the next iteration, with all images that are added until then."""
        if not self.scheduled:
            self.scheduled = True
            self.call_soon(run)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have the loop call this; waking it from another thread costs two system calls."""
        if threading.get_ident() == self._thread:
            self._loop.call_soon(call)
        else:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(call)


def _result(future: Future[T], context: RequestContext) -> T:
    """Wait for a result, not beyond the deadline.

    Raises:
        DeadlineExceeded: it was not there in time; or what the work has raised.
    """
    try:
        return future.result(timeout=context.remaining)
    except TimeoutError:
        future.cancel()
        context.check_wanted()
        raise


def _deliver(outcomes: Sequence[tuple[Done, Outcome]]) -> None:
    for done, outcome in outcomes:
        try:
            done(outcome)
        except Exception:  # noqa: BLE001  the other clients get their answers
            _LOG.exception("an answer could not be delivered")
