"""Dynamic batching: images that are ready at the same moment go through the network together.

No image waits for others to come: a batch is what is there. Under an event loop, small images are
decoded and predicted on the loop itself, where handing them to a thread would cost more than the
work. Large files are opened and large images decoded by threads; they join the next batch. A slow
network runs in a thread of its own, so that the loop can answer probes. Without an event loop
(gthread, or Flask's test client), the threads that wait for an answer take turns at the network.
Images of background tasks have the network when no other waits for it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

from service.inference.classifier import Classifier
from service.inference.errors import InvalidAnswer
from service.serving.background import Background
from service.serving.context import RequestContext
from service.serving.errors import MissingImage
from service.serving.pipeline import (
    OF_ONE_IMAGE,
    BackgroundTask,
    Decoded,
    Outcome,
    Pipeline,
    PredictRequest,
    Read,
    Source,
    Task,
    awaited,
    log_invalid,
)
from service.serving.responses import Response

T = TypeVar("T")

_LOG = logging.getLogger("labelserve")

# An image with at most this many pixels is decoded in well under a millisecond.
SMALL_PIXELS = 100_000
# A file of at most this many bytes is opened, or refused, in well under a millisecond. Larger ones
# can hold a million chunks, thousands of scans or a bomb: a second of work before the first pixel.
SMALL_BYTES = 32_768
# How long one batch may keep the event loop.
TURN_SECONDS = 0.02
# An event loop reads what has arrived once in each of its iterations, after the calls that it was
# asked for in the one before.
_ROUNDS = 2
# How often a thread looks for a turn that no other wants, and how long for one that none may want.
_LOOK_SECONDS = 0.001
_PATIENCE_SECONDS = 0.05


class EventLoop(Protocol):
    """What of an asyncio event loop is used here."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """From the loop's thread."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """From any thread."""


# The response of a 200, or what failed.
Answer = Response | Exception
Done = Callable[[Outcome], None]


class Batcher:
    """Runs the pipeline's phases for all requests of one worker.

    Args:
        pipeline: the phases.
        max_batch_size: images that go through the network together, at most.
    """

    def __init__(self, pipeline: Pipeline, max_batch_size: int) -> None:
        self._pipeline = pipeline
        self._max_batch_size = max_batch_size
        self._waiting: deque[tuple[Decoded, Done]] = deque()
        self._taking = threading.Lock()  # a batch from what waits
        self._turn = threading.Lock()  # at the network, where there is no event loop
        self._loop: _OnLoop | None = None
        self.background = Background(pipeline, self)
        self._threads = 0  # that need the network, where there is no event loop
        self._counting = threading.Lock()
        self.predicted = 0  # images so far, without those of background tasks

    # ---- for a thread ------------------------------------------------------------------------

    def answer(self, request: PredictRequest, read: Read) -> Response:
        """The response of a 200, without the headers that all have.

        Args:
            request: a whole request.
            read: its wire format.

        Raises:
            RequestError, ImageError, InvalidAnswer: ``problems`` knows the status of each.
        """
        task = _task(request, read)
        if isinstance(task, BackgroundTask):
            return self.background.answer(task, request.context)
        with self._counted():
            outcomes = self._outcomes(task, request.context)
        return _encoded(task, outcomes, request.context)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """One more thread that needs the network."""
        with self._counting:
            self._threads += 1
        try:
            yield
        finally:
            with self._counting:
                self._threads -= 1

    def _outcomes(self, task: Task, context: RequestContext) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(task.images), self._max_batch_size):
            some = task.images[start : start + self._max_batch_size]
            images = [self._decoded(one, task.classifier, context) for one in some]
            predicted = iter(
                self._predict([one for one in images if isinstance(one, Decoded)], context)
            )
            outcomes += [next(predicted) if isinstance(one, Decoded) else one for one in images]
        return outcomes

    def _decoded(
        self, source: Source, classifier: Classifier, context: RequestContext
    ) -> Decoded | Exception:
        try:
            return self._pipeline.decoded(source, classifier, context)
        except OF_ONE_IMAGE as error:
            return error

    def _predict(self, images: Sequence[Decoded], context: RequestContext) -> list[Outcome]:
        """Wait for the images' outcomes, not beyond the deadline."""
        futures: list[Future[Outcome]] = [Future() for _ in images]
        for image, future in zip(images, futures, strict=True):
            self._waiting.append((image, future.set_result))
        self._take_turns(futures, context)
        return [awaited(future, context) for future in futures]

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
            self._loop.background.shutdown(wait=False, cancel_futures=True)

    def submit(self, request: PredictRequest, read: Read, done: Callable[[Answer], None]) -> None:
        """Answer a request; called on the event loop, and never waits.

        Args:
            request: a whole request.
            read: its wire format.
            done: called on the event loop, after this call has returned.
        """
        assert self._loop is not None, "run_on comes first"  # noqa: S101
        if len(request.body) > SMALL_BYTES:
            self._loop.openers.submit(self._read, request, read, done, time.monotonic())
        else:
            self._read(request, read, done)

    def _read(
        self,
        request: PredictRequest,
        read: Read,
        done: Callable[[Answer], None],
        since: float | None = None,
    ) -> None:
        """Read a request, and go on with its images; ``since``: when it was handed on."""
        loop, context = self._loop, request.context
        assert loop is not None  # noqa: S101
        if since is not None:
            context.wait_since(since)
        try:
            task = _task(request, read)
        except Exception as error:  # noqa: BLE001  the client gets an answer
            loop.call_soon(partial(done, error))
            return
        if isinstance(task, BackgroundTask):
            loop.background.submit(self._answer_in_background, task, context, done)
            return
        work = _Work(task, context, partial(self._finish, task, context, done))
        if since is None and sum(isinstance(one, bytes) for one in task.images) > 1:
            loop.openers.submit(self._go_on, work)
        else:
            self._go_on(work)

    def _answer_in_background(
        self, task: BackgroundTask, context: RequestContext, done: Callable[[Answer], None]
    ) -> None:
        """In the one thread for it."""
        assert self._loop is not None  # noqa: S101
        try:
            answer: Answer = self.background.answer(task, context)
        except Exception as error:  # noqa: BLE001  the client gets an answer
            answer = error
        self._loop.call_soon(partial(done, answer))

    def _go_on(self, work: "_Work") -> None:
        """Send a request's images on their way, until one has to wait for a decoder.

        One after the other: a request with many images has one decoder at a time, like one with a
        single image.
        """
        try:
            while work.coming:
                place, source = work.coming.popleft()
                try:
                    if self._send(work, place, source):
                        return
                except OF_ONE_IMAGE as error:
                    work.settle(place, error)
        except Exception as error:  # noqa: BLE001  the client gets an answer
            work.fail(error)

    def _send(self, work: "_Work", place: int, source: Source) -> bool:
        """Send one image on its way; whether the next has to wait for it."""
        settle, context = partial(work.settle, place), work.context
        if isinstance(source, Exception):
            raise source
        if not isinstance(source, bytes):
            self._add(Decoded(source, work.task.classifier, context, time.monotonic()), settle)
            return False
        opened = self._pipeline.open(source, work.task.classifier, context)
        if opened.image.source_pixels <= SMALL_PIXELS:
            self._add(self._pipeline.decode(opened), settle)
            return False
        decoding = self._pipeline.decode_in_turn(opened)
        decoding.add_done_callback(partial(self._sent, work, settle))
        return True

    def _sent(self, work: "_Work", settle: Done, decoding: Future[Decoded]) -> None:
        """In a decoder's thread: an image is decoded, or is not."""
        error = decoding.exception()
        if error is None:
            self._add(decoding.result(), settle)
        elif isinstance(error, OF_ONE_IMAGE):
            settle(error)
        elif isinstance(error, Exception):
            work.fail(error)
            return
        if work.coming:  # reading its header may take long: no decoder waits for that
            assert self._loop is not None  # noqa: S101
            self._loop.openers.submit(self._go_on, work)

    def _finish(
        self,
        task: Task,
        context: RequestContext,
        done: Callable[[Answer], None],
        found: Sequence[Outcome] | Exception,
    ) -> None:
        """Every image of a request has its outcome: write the answer, on the event loop."""
        assert self._loop is not None  # noqa: S101
        if isinstance(found, Exception):
            self._loop.call_soon(partial(done, found))
        else:
            self._loop.call_soon(partial(_deliver_encoded, task, found, context, done))

    def _add(self, decoded: Decoded, done: Done) -> None:
        assert self._loop is not None  # noqa: S101
        self._waiting.append((decoded, done))
        self._loop.schedule(self._run_on_loop)

    def _run_on_loop(self) -> None:
        loop = self._loop
        assert loop is not None  # noqa: S101
        loop.scheduled = False
        _deliver(self._run_batch(on_loop=True))
        if self._next_is_slow():
            loop.network.submit(self._run_in_thread, loop)
        elif self._waiting:
            loop.schedule(self._run_on_loop)

    def _run_in_thread(self, loop: "_OnLoop") -> None:
        """A slow network: one image at a time, delivered on the loop."""
        while self._waiting:
            loop.call_soon(partial(_deliver, self._run_batch()))

    # ---- for background tasks ----------------------------------------------------------------

    def between(self, call: Callable[[], T], context: RequestContext) -> T:
        """What a call returns that is made when no image waits for the network.

        Raises:
            ClientDisconnected, DeadlineExceeded: the answer is no longer wanted.
            Exception: what the call has raised.
        """
        loop = self._loop
        if loop is None:
            return self._between_turns(call, context)
        future: Future[T] = Future()
        run = partial(_settle, future, call)
        if context.served is not None and _is_slow(context.served.classifier):
            loop.network.submit(self._behind_waiting, run, loop)
        else:
            loop.call_soon(partial(self._between_batches, run, _ROUNDS))
        return awaited(future, context)

    def _between_batches(self, run: Callable[[], None], rounds: int) -> None:
        """On the event loop: when nothing waits, and what has arrived meanwhile was looked at."""
        loop = self._loop
        assert loop is not None  # noqa: S101
        if self._next_is_slow():
            loop.network.submit(self._behind_waiting, run, loop)
        elif rounds or self._waiting:
            loop.call_soon(partial(self._between_batches, run, max(0, rounds - 1)))
        else:
            run()

    def _behind_waiting(self, run: Callable[[], None], loop: "_OnLoop") -> None:
        """In the thread of a slow network."""
        self._run_in_thread(loop)
        run()

    def _between_turns(self, call: Callable[[], T], context: RequestContext) -> T:
        """Without an event loop: when no other thread needs the network, or after a while no image.

        Threads that decode would be slowed down by one more that runs.
        """
        patient_until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            context.check_wanted()
            is_late = time.monotonic() > patient_until
            is_free = not self._threads or (is_late and not self._waiting)
            if is_free and self._turn.acquire(blocking=False):
                try:
                    return call()
                finally:
                    self._turn.release()
            time.sleep(_LOOK_SECONDS)

    # ---- for both ----------------------------------------------------------------------------

    def _next_is_slow(self) -> bool:
        """Whether the image that is next would keep an event loop for too long."""
        try:
            image, _ = self._waiting[0]
        except IndexError:  # none waits, or another thread has just taken it
            return False
        return _is_slow(image.classifier)

    def _run_batch(self, *, on_loop: bool = False) -> list[tuple[Done, Outcome]]:
        """Predict what waits, as much as one turn may take; ``on_loop``: nothing slow."""
        with self._taking:  # the network's thread takes, too
            batch, outcomes = self._take_batch(on_loop=on_loop)
        found = self._pipeline.predict([image for image, _ in batch])
        self.predicted += len(batch)
        outcomes += [(done, outcome) for (_, done), outcome in zip(batch, found, strict=True)]
        return outcomes

    def _take_batch(
        self, *, on_loop: bool
    ) -> tuple[list[tuple[Decoded, Done]], list[tuple[Done, Outcome]]]:
        """What is to be predicted together, and what is not wanted any more."""
        batch: list[tuple[Decoded, Done]] = []
        outcomes: list[tuple[Done, Outcome]] = []
        spent = 0.0
        while len(batch) < self._max_batch_size:
            try:
                image, done = self._waiting.popleft()
            except IndexError:
                break
            try:
                image.context.check_wanted()
            except Exception as error:  # noqa: BLE001
                outcomes.append((done, error))
                continue
            spent += image.classifier.seconds_per_image
            if (batch or on_loop) and spent > TURN_SECONDS:
                self._waiting.appendleft((image, done))
                break
            batch.append((image, done))
        return batch, outcomes


class _Work:
    """A request's images on their way: which come next, and what has become of the others.

    Args:
        task: what the request asks for.
        context: of the request.
        finish: called once, in any thread: with all outcomes, or with what ended the request.
    """

    def __init__(
        self,
        task: Task,
        context: RequestContext,
        finish: Callable[[Sequence[Outcome] | Exception], None],
    ) -> None:
        self.task = task
        self.context = context
        self.coming = deque(enumerate(task.images))
        self._outcomes: dict[int, Outcome] = {}
        self._finish = finish
        self._lock = threading.Lock()
        self._over = False

    def settle(self, place: int, outcome: Outcome) -> None:
        """An image has its outcome."""
        with self._lock:
            self._outcomes[place] = outcome
            if self._over or len(self._outcomes) < len(self.task.images):
                return
            self._over = True
        self._finish([self._outcomes[at] for at in range(len(self.task.images))])

    def fail(self, error: Exception) -> None:
        """Nothing more can come of the request."""
        with self._lock:
            if self._over:
                return
            self._over = True
        self._finish(error)


class _OnLoop:
    """An event loop that runs batches, and the threads beside it."""

    def __init__(self, loop: EventLoop, openers: Executor) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self.openers = openers
        self.network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.background = ThreadPoolExecutor(1, thread_name_prefix="background")
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


def _is_slow(classifier: Classifier) -> bool:
    """Whether one image keeps the network for longer than a turn."""
    return classifier.seconds_per_image > TURN_SECONDS


def _task(request: PredictRequest, read: Read) -> Task | BackgroundTask:
    request.context.check_wanted()
    task = read(request)
    if isinstance(task, Task) and not task.images:
        raise MissingImage("the request holds no image")
    return task


def _encoded(task: Task, outcomes: Sequence[Outcome], context: RequestContext) -> Response:
    """The answer; the operator is told of a model that has none for an image, once a request."""
    if any(isinstance(one, InvalidAnswer) for one in outcomes):
        log_invalid(context, task.classifier.card.version)
    return task.encode(outcomes)


def _deliver_encoded(
    task: Task,
    outcomes: Sequence[Outcome],
    context: RequestContext,
    done: Callable[[Answer], None],
) -> None:
    try:
        answer: Answer = _encoded(task, outcomes, context)
    except Exception as error:  # noqa: BLE001  the client gets an answer
        answer = error
    done(answer)


def _settle(future: "Future[T]", call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return  # nobody waits for it any more
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001  whoever waits is told
        future.set_exception(error)


def _deliver(outcomes: Sequence[tuple[Done, Outcome]]) -> None:
    for done, outcome in outcomes:
        try:
            done(outcome)
        except Exception:  # noqa: BLE001  the other clients get their answers
            _LOG.exception("an answer could not be delivered")
