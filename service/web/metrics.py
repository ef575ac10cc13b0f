"""What monitoring reads: Prometheus metrics that are right across all workers.

With several workers each writes its own files in a shared folder, named by its slot on the
scoreboard. A worker that replaces a dead one goes on with the same files, so that counts survive
and nothing grows with restarts.
"""

import os
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client import multiprocess as prometheus_multiprocess
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.inference.contract import ModelCard
from service.memory import available_memory
from service.web.exchange import Exchange
from service.web.problems import KINDS
from service.web.scoreboard import Scoreboard

T = TypeVar("T", bound=Hashable)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Labels beyond these share one name, so that a model with thousands of labels stays cheap to watch.
MAX_LABELS = 100
OTHER_LABELS = "(other)"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BYTES = tuple(4**power * 1024 for power in range(8))  # 1 KiB to 16 MiB
_PIXELS = (1e3, 1e4, 1e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7)
_PROBABILITIES = tuple(step / 10 for step in range(1, 11))

# There from the start, at 0: a series that is born with its first step hides it from Prometheus.
_ROUTES = ("/predict", "/predict/batch")
_STATUSES = (200, 429, 499, 500, 503, 504)
_REASONS = (*(kind.slug for kind in KINDS.values()), "status-404", "status-405", "status-500")
_PHASES = ("decode", "wait", "inference")
_LOADS = ("loaded", "refused")

# Whether this process took over the slot, and the files, of another that has ended.
_replacing: list[bool] = []


def use_slot(slot: int) -> None:
    """Write this process's metrics to the files of a slot; call it before ``Metrics()``."""
    files = Path(os.environ[FOLDER_VARIABLE]).glob(f"*_{slot}.db")
    _replacing[:] = [next(files, None) is not None]
    # prometheus_client chose its class when it was imported, and would go by process id.
    values.ValueClass = values.MultiProcessValue(lambda: slot)


def forget_slot(slot: int) -> None:
    """Drop what only a living worker may report (requests in flight)."""
    prometheus_multiprocess.mark_process_dead(slot)


class Readiness(Collector):
    """Whether the whole service is ready, whichever worker is asked."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """One gauge."""
        ready = self._board.ready and not self._board.draining
        yield GaugeMetricFamily("labelserve_ready", "1 while the service is ready.", int(ready))


class Memory(Collector):
    """What the service's processes hold together, and how much there is.

    Proportional shares (PSS): pages that workers share are counted once, not once for each.
    """

    def collect(self) -> Iterator[Metric]:
        """Two gauges; the first only where the kernel tells (Linux)."""
        try:
            held = sum(_proportional_bytes(pid) for pid in _processes())
        except OSError:
            held = 0  # not Linux, or a worker has just ended: better none than a wrong one
        if held:
            yield GaugeMetricFamily(
                "labelserve_memory_bytes", "Memory of all processes (proportional shares).", held
            )
        yield GaugeMetricFamily(
            "labelserve_memory_limit_bytes",
            "The container's memory limit, or all of the machine's memory.",
            available_memory(),
        )


class Metrics:
    """Every metric of the service, and how an exchange is counted in them."""

    def __init__(self, board: Scoreboard) -> None:
        self._registry = registry = CollectorRegistry()
        self._readiness = Readiness(board)
        self._memory = Memory()
        registry.register(self._readiness)
        registry.register(self._memory)
        self.requests = Counter(
            "labelserve_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "labelserve_request_duration_seconds",
            "From the request's head to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "labelserve_phase_duration_seconds",
            "Time of answered predictions in each phase: decode, wait, inference.",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "labelserve_requests_in_flight",
            "Predictions inside, waiting ones included.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.rejected = Counter(
            "labelserve_rejected", "Requests refused.", ["reason"], registry=registry
        )
        self.image_bytes = Histogram(
            "labelserve_image_bytes", "Bytes of decoded images.", buckets=_BYTES, registry=registry
        )
        self.image_pixels = Histogram(
            "labelserve_image_pixels",
            "Pixels of decoded images, before resizing.",
            buckets=_PIXELS,
            registry=registry,
        )
        self.predictions = Counter(
            "labelserve_predictions",
            "Answers by their most probable label.",
            ["label"],
            registry=registry,
        )
        self.top_probability = Histogram(
            "labelserve_top_probability",
            "Probability of the most probable label.",
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self.model_info = Gauge(
            "labelserve_model_info",
            "1 for the model that answers.",
            ["name", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.model_loads = Counter(
            "labelserve_model_loads",
            "Model files opened by a worker, and refused ones.",
            ["result"],
            registry=registry,
        )
        self.worker_restarts = Counter(
            "labelserve_worker_restarts",
            "Workers that took the place of one that had ended.",
            registry=registry,
        )
        # To find a series by its labels costs more than to count in it; there are few of them.
        self._requests = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._phase_seconds = cache(self.phase_seconds.labels)
        self._predictions = cache(self.predictions.labels)
        if any(_replacing):
            self.worker_restarts.inc()
        self._begin_at_zero()
        self._model: tuple[str, str] | None = None
        self._named_labels: frozenset[str] = frozenset()

    def use_model(self, card: ModelCard) -> None:
        """Report this model as the one that answers."""
        if self._model is not None:
            self.model_info.labels(*self._model).set(0)
        self.model_loads.labels("loaded").inc()
        self._model = (card.name, card.version)
        self.model_info.labels(*self._model).set(1)
        self._named_labels = frozenset(card.labels[:MAX_LABELS])
        for label in self._named_labels:
            self.predictions.labels(label)

    def observe(self, exchanges: Sequence[Exchange], route: str, status: int) -> None:
        """Count requests of one route that were answered with one status."""
        self._requests(route, status).inc(len(exchanges))
        _observe(self._seconds(route), [exchange.seconds for exchange in exchanges])
        for exchange in exchanges:
            if exchange.problem is not None:
                self.rejected.labels(exchange.problem).inc()
        for phase in _PHASES:
            spent = [one.phases[phase] for one in exchanges if phase in one.phases]
            _observe(self._phase_seconds(phase), spent)
        images = [image for exchange in exchanges for image in exchange.images]
        _observe(self.image_bytes, [image_bytes for image_bytes, _ in images])
        _observe(self.image_pixels, [pixels for _, pixels in images])
        tops = [prediction for exchange in exchanges for prediction in exchange.top]
        for label, times in _counted(top.label for top in tops).items():
            self._predictions(label if label in self._named_labels else OTHER_LABELS).inc(times)
        _observe(self.top_probability, [top.probability for top in tops])

    def to_text(self) -> bytes:
        """Prometheus' text format, over all workers."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        prometheus_multiprocess.MultiProcessCollector(everyone)
        everyone.register(self._readiness)
        everyone.register(self._memory)
        return generate_latest(everyone)

    def _begin_at_zero(self) -> None:
        for route in _ROUTES:
            self.seconds.labels(route)
            for status in _STATUSES:
                self.requests.labels(route, status)
        for reason in _REASONS:
            self.rejected.labels(reason)
        for phase in _PHASES:
            self.phase_seconds.labels(phase)
        for result in _LOADS:
            self.model_loads.labels(result)


def _observe(histogram: Histogram, amounts: list[float]) -> None:
    """``histogram.observe`` of each amount, with one write for every series that changes.

    A write is locked, packed and copied to shared memory, 16 times for a prediction: of several
    that are answered together, most fall into the same buckets. prometheus_client has no function
    for it; what it keeps is used here, and held against its own by a test.
    """
    if not amounts:
        return
    histogram._sum.inc(sum(amounts))  # noqa: SLF001
    bounds = histogram._upper_bounds  # noqa: SLF001
    for place, times in _counted(bisect_left(bounds, amount) for amount in amounts).items():
        histogram._buckets[place].inc(times)  # noqa: SLF001


def _counted(values: Iterable[T]) -> dict[T, int]:
    """How often each value is there (``Counter`` has a start of its own)."""
    times: dict[T, int] = {}
    for value in values:
        times[value] = times.get(value, 0) + 1
    return times


def _processes() -> list[int]:
    """This worker, and under gunicorn its master and siblings too."""
    if FOLDER_VARIABLE not in os.environ:
        return [os.getpid()]
    master = os.getppid()
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii")
    return [master, *map(int, children.split())]


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
