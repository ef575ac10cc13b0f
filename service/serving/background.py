"""Tasks of many inferences, made behind all predictions: one task at a time, in short turns.

A prediction that comes while a turn is taken waits for its end, so a turn is as short as a few
inferences. While predictions come, each turn is followed by a pause, so that they keep most of the
network's time; while none come, turns follow each other.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.errors import InvalidAnswer
from service.serving.context import RequestContext
from service.serving.pipeline import WATCH_SECONDS, BackgroundTask, Pipeline, log_invalid
from service.serving.responses import Response

T = TypeVar("T")

# A turn takes as many images as fit into this, and at least one.
TURN_SECONDS = 0.001
# A pause after a turn, in lengths of the turn.
PAUSE = 15


class Network(Protocol):
    """Where predictions are made, as far as background tasks know it."""

    @property
    def predicted(self) -> int:
        """How many images were predicted so far, without those of background tasks."""

    def between(self, call: Callable[[], T], context: RequestContext) -> T:
        """What a call returns that is made when no image waits for the network."""


class Background:
    """All background tasks of one worker.

    Args:
        pipeline: decodes their images.
        network: makes the inferences.
    """

    def __init__(self, pipeline: Pipeline, network: Network) -> None:
        self._pipeline = pipeline
        self._network = network
        self._alone = threading.Lock()
        self._seen = 0  # of what the network had predicted when the last turn was over

    def answer(self, task: BackgroundTask, context: RequestContext) -> Response:
        """The response of a 200, for a thread that can wait.

        Raises:
            RequestError, ImageError, InvalidAnswer: ``problems`` knows the status of each.
        """
        decoded = self._pipeline.decoded(task.image, task.classifier, context)
        with self._one_at_a_time(context), context.phase("background"):
            try:
                return task.answer(decoded.pixels, partial(self._predict, task.classifier, context))
            except InvalidAnswer:
                log_invalid(context, task.classifier.card.version)
                raise

    def ask(
        self, classifier: Classifier, pixels: NDArray[np.uint8], context: RequestContext
    ) -> NDArray[np.float32]:
        """A model's probabilities, float32 [labels], of one image, uint8 [height, width, 3].

        Raises:
            ClientDisconnected, DeadlineExceeded: it had no turn in time.
            InvalidAnswer: the model has none.
        """
        with self._one_at_a_time(context):
            rows = self._predict(classifier, context, pixels[None])
        return np.asarray(rows[0], np.float32)

    @contextmanager
    def _one_at_a_time(self, context: RequestContext) -> Iterator[None]:
        while not self._alone.acquire(timeout=min(WATCH_SECONDS, context.remaining)):
            context.check_wanted()
        try:
            yield
        finally:
            self._alone.release()

    def _predict(
        self, classifier: Classifier, context: RequestContext, images: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Probabilities, float32 [N, labels], of N images, in as many turns as they need."""
        each = max(1, int(TURN_SECONDS / max(classifier.seconds_per_image, 1e-6)))
        turns = [
            self._take_turn(partial(_timed, classifier, images[first : first + each]), context)
            for first in range(0, len(images), each)
        ]
        rows = np.concatenate(turns)
        if not np.isfinite(rows).all():
            raise InvalidAnswer("the model answered this image with NaN or infinity")
        return rows

    def _take_turn(
        self, predict: Callable[[], tuple[NDArray[np.float32], float]], context: RequestContext
    ) -> NDArray[np.float32]:
        context.check_wanted()
        rows, seconds = self._network.between(predict, context)
        others, self._seen = self._network.predicted - self._seen, self._network.predicted
        if others:
            time.sleep(min(PAUSE * seconds, context.remaining))
        return rows


def _timed(classifier: Classifier, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    begun = time.monotonic()
    return classifier.predict(images), time.monotonic() - begun
