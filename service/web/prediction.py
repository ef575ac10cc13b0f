"""One prediction as values: bytes and parameters in, the answer's body out. No HTTP framework here.

Phases, as everywhere: decode, predict, encode. Whatever serves ``POST /predict`` calls this.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.errors import ImageError
from service.inference.imaging import OpenedImage, open_image
from service.settings import MULTIPART_OVERHEAD, Settings
from service.web.errors import BadParameter, BodyTooLarge, MissingImage, TooManyFiles
from service.web.exchange import Exchange
from service.web.problems import problem_of
from service.web.upload import (
    Upload,
    check_image_bytes,
    check_media_type,
    single_image,
    uploads,
)


class Opened(NamedTuple):
    """A request for one prediction: its image, opened, and the model that will answer it."""

    classifier: Classifier
    image: OpenedImage
    image_bytes: int
    top_k: int | None


class Predictor:
    """Predictions with one model, within the limits of the settings.

    ``classifier`` may be replaced while requests are answered: each takes it once, at its start.
    """

    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        self.classifier = classifier
        self.settings = settings
        self.batch_limit = settings.batch_limit_per_worker  # asked for once: it looks at the cores
        self._image_limits = settings.image_limits
        # Decoding has a bound of its own: it is what takes memory.
        self._decoding = threading.BoundedSemaphore(settings.decoders_per_worker)
        self._inferring = threading.BoundedSemaphore(1)

    def check_head(self, content_type: str | None, content_length: int | None) -> int:
        """Look at a single prediction's headers; the number of body bytes to read at most.

        Raises:
            WrongMediaType: the declared type is no image.
            BodyTooLarge: the declared length is too much.
        """
        overhead = MULTIPART_OVERHEAD if check_media_type(content_type) else 0
        return _checked_length(content_length, self.settings.max_image_bytes + overhead)

    def check_batch_head(self, content_type: str | None, content_length: int | None) -> int:
        """The same for a batch, which only comes as a form."""
        check_media_type(content_type, multipart_only=True)
        return _checked_length(content_length, self.settings.max_batch_bytes)

    def predict(
        self, body: bytes, content_type: str | None, top_k: str | None, exchange: Exchange
    ) -> bytes:
        """Answer ``POST /predict``: the JSON body of a 200.

        Raises:
            RequestError, ImageError: one of their kinds; ``problems`` knows the status of each.
        """
        opened = self.open(body, content_type, top_k, exchange)
        with self.decoder(exchange):
            pixels = self.decode(opened, exchange)
        with self._turn(self._inferring, exchange):
            (row,) = self.classify(opened.classifier, [pixels], [exchange])
        return self.encode(opened, row, exchange)

    def open(
        self, body: bytes, content_type: str | None, top_k: str | None, exchange: Exchange
    ) -> Opened:
        """Find the image in a request and read its header.

        Raises:
            RequestError, ImageError: one of their kinds.
        """
        wanted = parse_top_k(top_k)
        data = single_image(body, content_type, self.settings.max_image_bytes)
        exchange.check_wanted()
        image = open_image(data, self._image_limits)
        return Opened(self.classifier, image, len(data), wanted)

    def decoder(self, exchange: Exchange) -> AbstractContextManager[None]:
        """A turn at decoding, to be held while a picture that may be large is decoded."""
        return self._turn(self._decoding, exchange)

    def decode(self, opened: Opened, exchange: Exchange) -> NDArray[np.uint8]:
        """The pixels of an opened image, uint8 [height, width, 3].

        Raises:
            ImageError: it is broken after all.
        """
        classifier = opened.classifier
        with exchange.phase("decode"):
            pixels = opened.image.decode(classifier.input_size, classifier.card.input.resize)
        exchange.images.append((opened.image_bytes, opened.image.source_pixels))
        return pixels

    def classify(
        self,
        classifier: Classifier,
        pixels: Sequence[NDArray[np.uint8]],
        exchanges: Sequence[Exchange],
    ) -> NDArray[np.float32]:
        """Probabilities, float32 [N, labels], of N decoded images.

        ``exchanges``: the requests that they belong to, which all took the time of all.
        """
        begun = time.monotonic()
        rows = classifier.predict(np.stack(pixels))
        spent = time.monotonic() - begun
        for exchange in exchanges:
            exchange.add_phase("inference", spent)
        return rows

    def encode(self, opened: Opened, row: NDArray[np.float32], exchange: Exchange) -> bytes:
        """The JSON body of a 200 for one row of probabilities."""
        predictions = opened.classifier.rank(row, opened.top_k)
        exchange.top.append(predictions[0])
        return encode_answer(opened.classifier, {"predictions": predictions})

    def predict_batch(
        self, body: bytes, content_type: str | None, top_k: str | None, exchange: Exchange
    ) -> bytes:
        """Answer ``POST /predict/batch``: one result a file, in order.

        Raises:
            RequestError: one of its kinds. What is wrong with a single file is in its result.
        """
        classifier = self.classifier
        wanted = parse_top_k(top_k)
        limit = self.settings.max_batch_files
        files = uploads(body, content_type, limit)
        if not files:
            raise MissingImage("the form holds no file")
        if len(files) > limit:
            raise TooManyFiles(f"the form holds {len(files)} files, {limit} are allowed")
        results: list[dict[str, object]] = []
        for start in range(0, len(files), self.batch_limit):
            some = files[start : start + self.batch_limit]
            results += self._batch_results(classifier, some, wanted, exchange)
        return encode_answer(classifier, {"results": results})

    def _batch_results(
        self,
        classifier: Classifier,
        files: Sequence[Upload],
        top_k: int | None,
        exchange: Exchange,
    ) -> list[dict[str, object]]:
        results: list[dict[str, object]] = []
        pixels: list[NDArray[np.uint8]] = []
        for file in files:
            result: dict[str, object] = {"filename": file.filename}
            try:
                check_image_bytes(file.data, self.settings.max_image_bytes)
                image = open_image(file.data, self._image_limits)
                opened = Opened(classifier, image, len(file.data), top_k)
                with self.decoder(exchange):
                    pixels.append(self.decode(opened, exchange))
            except (ImageError, BodyTooLarge) as error:
                result["problem"] = problem_of(error)
            results.append(result)
        rows = self._batch_rows(classifier, pixels, exchange)
        for result in results:
            if "problem" not in result:
                predictions = classifier.rank(next(rows), top_k)
                exchange.top.append(predictions[0])
                result["predictions"] = predictions
        return results

    def _batch_rows(
        self, classifier: Classifier, pixels: list[NDArray[np.uint8]], exchange: Exchange
    ) -> Iterator[NDArray[np.float32]]:
        if pixels:
            with self._turn(self._inferring, exchange):
                rows = self.classify(classifier, pixels, [exchange])
            yield from rows

    @contextmanager
    def _turn(self, semaphore: threading.BoundedSemaphore, exchange: Exchange) -> Iterator[None]:
        """Wait for a turn, but not beyond the request's deadline."""
        with exchange.phase("wait"):
            got = semaphore.acquire(timeout=exchange.remaining)
        try:
            exchange.check_wanted()
            yield
        finally:
            if got:
                semaphore.release()


def parse_top_k(text: str | None) -> int | None:
    """``top_k`` of a query string: None for all labels.

    Raises:
        BadParameter: not a whole number of at least 1.
    """
    if text is None:
        return None
    # isdecimal alone would take digits of other scripts; a number of 10 digits is all labels too.
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise BadParameter("top_k has to be a whole number of at least 1")
    return int(text)


def encode_answer(classifier: Classifier, content: dict[str, object]) -> bytes:
    """The JSON body of a 200, beginning with the model that spoke."""
    card = classifier.card
    return msgspec.json.encode({"model": {"name": card.name, "version": card.version}, **content})


def _checked_length(content_length: int | None, limit: int) -> int:
    if content_length is not None and content_length > limit:
        raise BodyTooLarge(f"the body has {content_length} bytes, {limit} are allowed")
    return limit
