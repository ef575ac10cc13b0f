"""``POST /predict`` ahead of the framework: what is ready at the same moment goes through together.

Nothing waits for company: a turn of the loop takes what is there. Small pictures are decoded and
classified in the loop itself, where handing over to a thread would cost more than the work; larger
ones are decoded by threads and join the next batch; a network that is slow stays off the loop
altogether, so that a probe never waits long.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import parse_qs

import numpy as np
from numpy.typing import NDArray

from service.transport.connection import Connection
from service.transport.request import Request
from service.web.prediction import Opened
from service.web.service import Answer, Service

ROUTE, BATCH_ROUTE = "/predict", "/predict/batch"
# A picture of so many pixels is decoded in well under a millisecond.
SMALL_PIXELS = 100_000
# A file of so many bytes is opened, or refused, without anybody's noticing. Larger ones can hold a
# million chunks, thousands of scans or a bomb: a second of work before the first pixel.
SMALL_BYTES = 32_768
# What one turn of the loop may spend in the network.
TURN_SECONDS = 0.02

JSON = {"Content-Type": "application/json"}


class Work(NamedTuple):
    """A whole request on its way to an answer, there ``since`` (monotonic clock)."""

    connection: Connection
    request: Request
    body: bytes
    since: float


class Decoded(NamedTuple):
    """A request whose picture is uint8 [height, width, 3] already."""

    work: Work
    opened: Opened
    pixels: NDArray[np.uint8]


class Predictions:
    """The predictions of one loop that are not answered yet.

    Args:
        service: what answers.
        decoders: threads for large pictures.
        wake: tells the loop, from a thread, that ``run`` has something to do.
    """

    def __init__(
        self, service: Service, decoders: ThreadPoolExecutor, wake: Callable[[], None]
    ) -> None:
        self._service = service
        self._decoders = decoders
        self._wake = wake
        self._ready: deque[Work] = deque()
        self._decoded: deque[Decoded] = deque()
        self._failed: deque[tuple[Work, Answer]] = deque()

    @property
    def pending(self) -> bool:
        """Whether ``run`` has something to do."""
        return bool(self._ready or self._decoded or self._failed)

    @property
    def together(self) -> int:
        """Images that one turn may take; 0 for a network too slow for the loop."""
        seconds = self._service.predictor.classifier.seconds_per_image
        return min(self._service.predictor.batch_limit, int(TURN_SECONDS / max(seconds, 1e-6)))

    def add(self, work: Work) -> None:
        """Take a request that has been let in."""
        self._ready.append(work)

    def run(self) -> list[tuple[Work, Answer]]:
        """Answer what is there, as much as one turn may take."""
        answered = [self._failed.popleft() for _ in range(len(self._failed))]
        batch: list[Decoded] = []
        limit = max(1, self.together)
        while self._decoded and len(batch) < limit:
            batch.append(self._decoded.popleft())
        while self._ready and len(batch) < limit:
            work = self._ready.popleft()
            try:
                decoded = self._decode_if_small(work)
            except Exception as error:  # noqa: BLE001  whatever it is, the client gets an answer
                answered.append((work, self._refuse(work, error)))
            else:
                if decoded is not None:
                    batch.append(decoded)
        if batch:
            answered += self._classify(batch)
        return answered

    def _decode_if_small(self, work: Work) -> Decoded | None:
        exchange = work.request.exchange
        exchange.wait_since(work.since)
        exchange.bytes_in = len(work.body)
        opened = self._open(work) if len(work.body) <= SMALL_BYTES else None
        if opened is None or opened.image.source_pixels > SMALL_PIXELS:
            self._decoders.submit(self._decode_in_thread, work, opened)
            return None
        return Decoded(work, opened, self._service.predictor.decode(opened, exchange))

    def _open(self, work: Work) -> Opened:
        head = work.request.head
        top_k = parse_qs(head.query, keep_blank_values=True).get("top_k") if head.query else None
        return self._service.predictor.open(
            work.body,
            head.headers.get("Content-Type", ""),
            top_k[0] if top_k else None,
            work.request.exchange,
        )

    def _decode_in_thread(self, work: Work, opened: Opened | None) -> None:
        predictor, exchange = self._service.predictor, work.request.exchange
        try:
            opened = opened or self._open(work)
            with predictor.decoder(exchange):
                pixels = predictor.decode(opened, exchange)
            self._decoded.append(Decoded(work, opened, pixels))
        except Exception as error:  # noqa: BLE001
            self._failed.append((work, self._refuse(work, error)))
        self._wake()

    def _classify(self, batch: list[Decoded]) -> list[tuple[Work, Answer]]:
        """Together by model: around a swap, two may be spoken to."""
        answered = []
        for classifier in {
            id(one.opened.classifier): one.opened.classifier for one in batch
        }.values():
            some = [one for one in batch if one.opened.classifier is classifier]
            exchanges = [one.work.request.exchange for one in some]
            try:
                rows = self._service.predictor.classify(
                    classifier, [one.pixels for one in some], exchanges
                )
                answered += [*self._answers(some, rows)]
            except Exception as error:  # noqa: BLE001
                answered += [(one.work, self._refuse(one.work, error)) for one in some]
        return answered

    def _answers(
        self, some: list[Decoded], rows: NDArray[np.float32]
    ) -> Iterator[tuple[Work, Answer]]:
        for one, row in zip(some, rows, strict=True):
            exchange = one.work.request.exchange
            body = self._service.predictor.encode(one.opened, row, exchange)
            headers = JSON | self._service.finish_later(exchange, 200)
            yield one.work, Answer(200, headers, body)

    def _refuse(self, work: Work, error: Exception) -> Answer:
        return self._service.refusal(error, work.request.exchange)
