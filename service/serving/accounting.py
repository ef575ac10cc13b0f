"""Every answered request is counted and logged, exactly once."""

import logging
import threading
import time
from collections import deque

from service.runtime.logs import log_request
from service.runtime.metrics import Metrics
from service.runtime.records import RequestRecord
from service.runtime.shared_state import WorkerSlot
from service.runtime.traces import Traces
from service.serving.context import RequestContext

_LOG = logging.getLogger("labelserve")


class Accounting:
    """Pending records, and ``flush``, which counts and logs them together.

    After an inference the first count and the first line take four times as long as the next ones,
    because the network has filled the processor's caches. Records that are flushed together share
    that cost.
    """

    def __init__(self, metrics: Metrics, slot: WorkerSlot, traces: Traces | None = None) -> None:
        self._metrics = metrics
        self._traces = traces
        self._slot = slot
        self._pending: deque[RequestRecord] = deque()
        self._adding = threading.Lock()
        self._flushing = threading.Lock()

    @property
    def pending(self) -> int:
        """Records that are not counted and logged yet."""
        return len(self._pending)

    def add(self, context: RequestContext, status: int) -> None:
        """Take an answered request; one that has been taken already is left as it was."""
        with self._adding:
            if context.ended is not None:
                return
            context.ended = time.monotonic()
            self._pending.append(context.record(status))
            self._slot.add_answered()

    def flush(self) -> None:
        """Count, log and trace all pending records; from any thread."""
        with self._flushing:  # a second caller returns when the first has counted
            records = [self._pending.popleft() for _ in range(len(self._pending))]
            try:
                for record in records:
                    log_request(record)
                self._metrics.observe(records)
                if self._traces:
                    self._traces.end(records)
            except Exception:  # noqa: BLE001  the clients get their answers all the same
                _LOG.exception("answers could not be counted")
            self._slot.add_counted(len(records))
