"""Another version is asked what a share of the answered images are, to compare the two.

Nobody waits for that. It begins when the answer has gone, its inferences are made behind
predictions and explanations, and an image that finds no turn within a moment is dropped. What is
kept until then is bounded: the pixels that the answer was made from, or the image as the request
holds it where the other version takes other pixels.
"""

import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.inference.contract import InputSpec
from service.runtime.metrics import Metrics
from service.serving.background import Background
from service.serving.comparison import Comparison
from service.serving.context import RequestContext
from service.serving.errors import ClientDisconnected, DeadlineExceeded, UnknownModel
from service.serving.models.models import Models
from service.serving.pipeline import (
    Answered,
    BackgroundTask,
    Outcome,
    Pipeline,
    PredictRequest,
    Read,
    Source,
    Task,
)
from service.serving.responses import Response
from service.serving.served import Asked, Served
from service.settings import Settings

_LOG = logging.getLogger("labelserve.shadow")

# How long an answered image may wait for its turn.
PATIENCE_SECONDS = 1.0
# Requests of which something is kept at the same time: about as many as find a turn in that time
# beside predictions.
REQUESTS = 64
# A share is drawn in steps of a ten thousandth of a percent.
_STEPS = 10_000


# What is kept of an image: its file, its pixels, or nothing.
_Kept = bytes | NDArray[np.uint8] | None


class OtherPixels(Exception):
    """A request holds pixels, and the other version takes images of another size."""


class _Sample:
    """A request that the other version is to be asked about.

    ``ids``: what the log finds it by; ``served``: what answers it; ``other``: what is asked too.
    ``held``: bytes that are kept for it; None where there was no room. ``sources``: if the other
    version takes other pixels, what it can be asked with: each image's file, or its pixels; None
    where it is neither. ``outcomes``: empty until it is answered.
    """

    def __init__(
        self,
        ids: Mapping[str, str],
        served: Served,
        other: Served,
        sources: Sequence[_Kept],
        held: int | None,
    ) -> None:
        self.ids = ids
        self.served = served
        self.other = other
        self.sources = sources
        self.held = held
        self.outcomes: Sequence[Outcome] = ()

    @property
    def answered(self) -> list[tuple[int, Answered]]:
        """The images that have an answer, each with its place."""
        places = enumerate(self.outcomes)
        return [(place, outcome) for place, outcome in places if isinstance(outcome, Answered)]


class Shadow:
    """Asks another version about a share of the requests.

    Args:
        models: those that answer, and their versions.
        settings: which version is asked, of how many requests, and how much may be kept.
        pipeline: decodes images anew, where the other version takes other pixels.
        background: makes the inferences.
        metrics: told how the answers compare.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        pipeline: Pipeline,
        background: Background,
        metrics: Metrics,
    ) -> None:
        self._models = models
        self._wanted = settings.shadow
        self._share = round(settings.shadow_percent * _STEPS)
        self._room = settings.max_image_bytes
        self._pipeline = pipeline
        self._background = background
        self._metrics = metrics
        self._requests = self._held = 0
        self._counting = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._asking: RequestContext | None = None

    def watch(self, read: Read) -> Read:
        """The same wire format; a share of its requests is asked of the other version too."""
        wanted = self._wanted
        if wanted is None:
            return read

        def watched(request: PredictRequest) -> Task | BackgroundTask:
            task = read(request)
            if not isinstance(task, Task) or secrets.randbelow(100 * _STEPS) >= self._share:
                return task
            other = self._other(request.served, wanted)
            return task if other is None else self._sampled(task, request, other)

        return watched

    def stop(self) -> None:
        """Ask nothing more; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        asking = self._asking
        if asking is not None:
            asking.abandoned = True

    # ---- while a request is answered ---------------------------------------------------------

    def _other(self, served: Served, wanted: str) -> Served | None:
        """The version that is to be asked too; None while there is none, or it answers itself."""
        try:
            other = self._models.find(Asked(served.name, wanted))
        except UnknownModel:
            return None  # labels come and go
        return None if other.number == served.number else other

    def _sampled(self, task: Task, request: PredictRequest, other: Served) -> Task:
        """The task, which notes its outcomes when it is answered."""
        served, context = request.served, request.context
        again = _wants_other_pixels(served.classifier.card.input, other.classifier.card.input)
        sources = [_usable(image, other) for image in task.images] if again else []
        held = self._take_room(sum(map(_size, sources)) if again else _pixels_size(task))
        context.keeps_pixels = not again and held is not None
        kept = [] if held is None else [_own(source) for source in sources]
        sample = _Sample(context.ids, served, other, kept, held)

        def encode(outcomes: Sequence[Outcome]) -> Response:
            response = task.encode(outcomes)
            sample.outcomes = outcomes
            return response

        context.afterwards = partial(self._follow, sample)
        return task._replace(encode=encode)

    def _take_room(self, size: int) -> int | None:
        """Count a request in; None if there is no room for what has to be kept of it."""
        with self._counting:
            if self._requests == REQUESTS or self._held + size > self._room:
                return None
            self._requests += 1
            self._held += size
        return size

    def _give_back(self, sample: _Sample) -> None:
        if sample.held is not None:
            with self._counting:
                self._requests -= 1
                self._held -= sample.held

    # ---- when the answer has gone ------------------------------------------------------------

    def _follow(self, sample: _Sample) -> None:
        """Have the other version asked, if there is an answer to compare with; never waits."""
        images = sample.answered
        if images and sample.held is not None:
            since = time.monotonic()
            with suppress(RuntimeError):  # the worker ends
                self._thread.submit(self._ask, sample, since)
            return
        self._count("dropped", len(images))
        self._give_back(sample)

    def _ask(self, sample: _Sample, since: float) -> None:
        """In the one thread for it."""
        until = since + PATIENCE_SECONDS
        context = RequestContext(sample.ids["request_id"], "", since, until, served=sample.other)
        self._asking = context
        try:
            for place, answered in sample.answered:
                self._count(self._result(sample, place, answered, context))
        finally:
            self._asking = None
            self._give_back(sample)

    def _result(
        self, sample: _Sample, place: int, answered: Answered, context: RequestContext
    ) -> str:
        """Ask about one image: ``same``, ``other``, ``dropped`` or ``failed``."""
        other = sample.other.classifier
        try:
            pixels = self._pixels(sample, place, answered, context)
            row = self._background.ask(other, pixels, context)
        except (ClientDisconnected, DeadlineExceeded):
            return "dropped"
        except Exception as error:  # noqa: BLE001  nobody waits for it but the operator
            _LOG.warning("the shadow failed: %s", error, extra={"fields": _whose(sample, place)})
            return "failed"
        labels = sample.served.classifier.card.labels
        compared = Comparison.of(answered.row, labels, row, other.card.labels)
        if compared.difference is not None:
            self._metrics.shadow_difference.observe(compared.difference)
        if compared.agrees:
            return "same"
        _log_disagreement(sample, place, compared)
        return "other"

    def _pixels(
        self, sample: _Sample, place: int, answered: Answered, context: RequestContext
    ) -> NDArray[np.uint8]:
        """An image as the other version takes it, uint8 [height, width, 3]."""
        if answered.pixels is not None:
            return answered.pixels
        source = sample.sources[place]
        if source is None:
            raise OtherPixels("the request holds pixels, and the shadow takes another size")
        return self._pipeline.decoded(source, sample.other.classifier, context).pixels

    def _count(self, result: str, images: int = 1) -> None:
        self._metrics.shadow.labels(result).inc(images)


def _wants_other_pixels(mine: InputSpec, others: InputSpec) -> bool:
    return (mine.height, mine.width, mine.resize) != (others.height, others.width, others.resize)


def _usable(image: Source, other: Served) -> _Kept:
    """An image as its request holds it, if the other version can be asked with that."""
    if isinstance(image, np.ndarray):
        return image if image.shape[:2] == other.classifier.input_size else None
    return image if isinstance(image, bytes) else None


def _size(source: _Kept) -> int:
    """Bytes of what is kept of an image."""
    if isinstance(source, np.ndarray):
        return source.nbytes
    return 0 if source is None else len(source)


def _own(source: _Kept) -> _Kept:
    """The same without the rest of a body that pixels may be a view of."""
    return source.copy() if isinstance(source, np.ndarray) else source


def _pixels_size(task: Task) -> int:
    """Bytes of the pixels of all images of a request, as the network is given them."""
    height, width = task.classifier.input_size
    return len(task.images) * height * width * 3


def _whose(sample: _Sample, place: int) -> dict[str, object]:
    """Of which request an image is, and the two versions; which image, where there are several."""
    fields: dict[str, object] = {**sample.ids}
    if len(sample.outcomes) > 1:
        fields["image"] = place + 1
    served, other = sample.served, sample.other
    versions = {"model_version": served.number, "shadow_version": other.number}
    return fields | {"model": served.name} | versions


def _log_disagreement(sample: _Sample, place: int, compared: Comparison) -> None:
    (label, probability), (shadow_label, shadow_probability) = compared.first, compared.second
    fields = _whose(sample, place) | {
        "label": label,
        "probability": round(probability, 4),
        "shadow_label": shadow_label,
        "shadow_probability": round(shadow_probability, 4),
    }
    if compared.difference is not None:
        fields["difference"] = round(compared.difference, 4)
    _LOG.info("the shadow answers otherwise", extra={"fields": fields})
