"""Decode, predict, encode: the phases of one prediction, each written once.

Every way to a prediction goes through here: a single image, a form of many, the asyncio worker,
Flask under gthread. ``batcher`` decides which thread runs a phase, and which images are predicted
together.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier, Outputs
from service.inference.errors import ImageError, InvalidAnswer
from service.inference.explanation import Predict
from service.inference.imaging import ImageLimits, OpenedImage, open_image
from service.serving.context import Headers, RequestContext
from service.serving.errors import BodyTooLarge, UnsupportedCoding
from service.serving.responses import Response
from service.serving.served import Served
from service.serving.uploads import check_image_bytes
from service.settings import Settings

T = TypeVar("T")

_LOG = logging.getLogger("labelserve")

# How late a thread that waits may notice that its client is gone.
WATCH_SECONDS = 0.5

# What goes wrong for one image, and for that one alone.
OF_ONE_IMAGE = (ImageError, InvalidAnswer, BodyTooLarge, UnsupportedCoding)


class PredictRequest(NamedTuple):
    """A whole request for predictions. ``query`` is the raw query string."""

    body: bytes
    headers: Headers
    query: str
    context: RequestContext

    @property
    def served(self) -> Served:
        """What answers it, as it was chosen when the request's head was there."""
        assert self.context.served is not None, "Endpoints.check_head comes first"  # noqa: S101
        return self.context.served


# An image as a request holds it: a file's bytes, pixels (uint8 [height, width, 3], RGB, of the
# model's size), or what is wrong with it already.
Source = bytes | NDArray[np.uint8] | Exception


class Answered(NamedTuple):
    """What the model says of one image.

    ``row``: its probabilities, float32 [labels]. ``familiarity``: in 0..1, None of a model without
    it. ``pixels``: what the network was given, uint8 [height, width, 3], where the request's
    context keeps them.
    """

    row: NDArray[np.float32]
    familiarity: float | None
    pixels: NDArray[np.uint8] | None = None


# What became of one image: its answer, or what failed.
Outcome = Answered | Exception
# The probabilities of all images of a request, float32 [labels] each.
Rows = list[NDArray[np.float32]]


class Task(NamedTuple):
    """What a request asks for, read from its wire format.

    ``encode`` writes the answer: it gets one outcome for each image, in order, and raises what it
    does not write into the answer.
    """

    images: Sequence[Source]
    classifier: Classifier
    encode: Callable[[Sequence[Outcome]], Response]


class BackgroundTask(NamedTuple):
    """What a request asks for that takes many inferences. They are made behind all predictions.

    ``answer`` writes the answer, in a thread: it gets the pixels, uint8 [height, width, 3] of the
    model's size, and what predicts.
    """

    image: Source
    classifier: Classifier
    answer: Callable[[NDArray[np.uint8], Predict], Response]


def rows_of(outcomes: Sequence[Outcome]) -> Rows:
    """The probabilities of a request whose images are all answered, or none.

    Raises:
        Exception: the first outcome that is one; among several images it says which it is.
    """
    rows: Rows = []
    for place, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, OF_ONE_IMAGE) and len(outcomes) > 1:
            raise type(outcome)(f"image {place} of {len(outcomes)}: {outcome}") from outcome
        if isinstance(outcome, Exception):
            raise outcome
        rows.append(outcome.row)
    return rows


# Reads a request's wire format. It raises RequestError where the request cannot be used.
Read = Callable[[PredictRequest], Task | BackgroundTask]


class Opened(NamedTuple):
    """An image whose header is read and within the limits, and the model that will answer."""

    image: OpenedImage
    image_bytes: int
    classifier: Classifier
    context: RequestContext


class Decoded(NamedTuple):
    """An image as the network takes it: ``pixels`` are uint8 [height, width, 3], RGB.

    ``since``: when it was decoded (monotonic clock).
    """

    pixels: NDArray[np.uint8]
    classifier: Classifier
    context: RequestContext
    since: float


class Pipeline:
    """The phases, within the settings' limits. Any thread may run them.

    Args:
        settings: the limits on images.
        decoders: how many large images may be decoded at the same time.
    """

    def __init__(self, settings: Settings, decoders: int) -> None:
        self._max_image_bytes = settings.max_image_bytes
        self._image_limits = ImageLimits(max_pixels=settings.max_pixels, formats=settings.formats)
        # Decoding is what takes memory: its threads are the bound. A semaphore would not be fair to
        # a waiting thread, which can lose to one that comes back at once for as long as it takes.
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    def open(self, data: bytes, classifier: Classifier, context: RequestContext) -> Opened:
        """Read an image's header.

        Raises:
            BodyTooLarge, ImageError: it cannot be used.
            ClientDisconnected, DeadlineExceeded: the answer is no longer wanted.
        """
        context.check_wanted()
        check_image_bytes(data, self._max_image_bytes)
        image = open_image(data, self._image_limits)
        return Opened(image, len(data), classifier, context)

    def decode(self, opened: Opened) -> Decoded:
        """The pixels of an opened image.

        Raises:
            ImageError: it is broken after all.
        """
        classifier, context = opened.classifier, opened.context
        with context.phase("decode"):
            pixels = opened.image.decode(classifier.input_size, classifier.card.input.resize)
        context.images.append((opened.image_bytes, opened.image.source_pixels))
        return Decoded(pixels, classifier, context, time.monotonic())

    def decode_in_turn(self, opened: Opened) -> "Future[Decoded]":
        """The same in one of the threads for it, first come, first served.

        Raises, from the future:
            ImageError: as of ``decode``.
            ClientDisconnected, DeadlineExceeded: the answer was no longer wanted.
        """
        return self._decoders.submit(self._decode_if_wanted, opened, time.monotonic())

    def _decode_if_wanted(self, opened: Opened, since: float) -> Decoded:
        opened.context.wait_since(since)
        opened.context.check_wanted()
        return self.decode(opened)

    def decoded(self, source: Source, classifier: Classifier, context: RequestContext) -> Decoded:
        """An image as a request holds it, for a thread that can wait.

        Raises:
            Exception: what the image is, if it is one; else as of ``open`` and ``decode_in_turn``.
        """
        if isinstance(source, Exception):
            raise source
        if not isinstance(source, bytes):
            return Decoded(source, classifier, context, time.monotonic())
        opened = self.open(source, classifier, context)
        return awaited(self.decode_in_turn(opened), context)

    def predict(self, batch: Sequence[Decoded]) -> list[Outcome]:
        """Send decoded images through the network together; one outcome each, in order.

        Images that were opened for another model (around its replacement) go separately. What fails
        for one image fails for that image alone.
        """
        outcomes: dict[int, Outcome] = {}
        by_model: dict[int, list[int]] = {}
        for place, image in enumerate(batch):
            by_model.setdefault(id(image.classifier), []).append(place)
        for places in by_model.values():
            images = [batch[place] for place in places]
            try:
                found = _outcomes(images, _outputs(images))
            except Exception as error:  # noqa: BLE001  each client gets an answer
                outcomes |= dict.fromkeys(places, error)
            else:
                outcomes |= dict(zip(places, found, strict=True))
        return [outcomes[place] for place in range(len(batch))]


def awaited(future: "Future[T]", context: RequestContext) -> T:
    """Wait for a result as long as the request's client does.

    Raises:
        ClientDisconnected, DeadlineExceeded: the answer is no longer wanted.
        Exception: what the work has raised.
    """
    try:
        while True:
            with suppress(TimeoutError):
                return future.result(min(WATCH_SECONDS, context.remaining))
            context.check_wanted()
    finally:
        future.cancel()  # which leaves alone what is done


def _outputs(images: Sequence[Decoded]) -> Outputs:
    """What one model answers to N images."""
    begun = time.monotonic()
    outputs = images[0].classifier.run(np.stack([image.pixels for image in images]))
    ended = time.monotonic()
    waited: dict[int, float] = {}
    contexts: dict[int, RequestContext] = {}
    for image in images:  # a form's images share one context, and its time passes once
        contexts[id(image.context)] = image.context
        wait = begun - image.since
        waited[id(image.context)] = max(wait, waited.get(id(image.context), 0.0))
    for key, context in contexts.items():
        context.add_phase("wait", begun - waited[key], begun)
        context.add_phase("inference", begun, ended)
    return outputs


def log_invalid(context: RequestContext, version: str) -> None:
    """Tell the operator that a model's answer to a request was none."""
    fields = {**context.ids, "version": version}
    _LOG.error("the model answered with NaN or infinity", extra={"fields": fields})


def _outcomes(images: Sequence[Decoded], outputs: Outputs) -> list[Outcome]:
    """Each image's answer, if it is one of numbers; what monitoring is told of it is noted."""
    rows, familiarity = outputs
    outcomes: list[Outcome] = []
    best, finite = rows.argmax(axis=1).tolist(), np.isfinite(rows.sum(axis=1)).tolist()
    shares: Sequence[float | None] = familiarity or [None] * len(images)
    for image, row, share, label, usable in zip(images, rows, shares, best, finite, strict=True):
        if usable and (share is None or math.isfinite(share)):
            classifier, context = image.classifier, image.context
            context.top.append((classifier.card.labels[label], float(row[label])))
            if share is not None:
                context.familiarity.append((share, classifier.is_unfamiliar(share)))
            # A copy: they may be a view of a whole body.
            pixels = image.pixels.copy() if context.keeps_pixels else None
            outcomes.append(Answered(row, share, pixels))
        else:
            outcomes.append(InvalidAnswer("the model answered this image with NaN or infinity"))
    return outcomes
