"""What monitoring reads: Prometheus metrics that are right across all workers."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service.runtime import prometheus
from service.runtime.records import RequestRecord
from service.runtime.shared_state import SharedState

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Labels beyond these share one name, so that models with thousands of labels, or many versions of
# them, have few series.
MAX_LABELS = 100
OTHER_LABELS = "(other)"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BYTES = tuple(4**power * 1024 for power in range(8))  # 1 KiB to 16 MiB
_PIXELS = (1e3, 1e4, 1e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7)
_PROBABILITIES = tuple(step / 10 for step in range(1, 11))

# Finer where images are unfamiliar (of images like the training images, all shares are as
# frequent), and where the answers of two versions are nearly alike.
_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)

# These series exist from the start, at 0: Prometheus does not see the first step of a series that
# begins with it.
_STATUSES = (200, 429, 499, 500, 503, 504)
_PLAIN_REASONS = ("status-404", "status-405", "status-500")
_PHASES = ("decode", "wait", "inference", "background")
_LOADS = ("loaded", "refused")
_SHADOWS = ("same", "other", "dropped", "failed")

# What tells versions apart: their model's name, and their number.
_VERSION = ("model", "model_version")

# How a gauge is summed up over the workers that live.
_GaugeMode = Literal["livesum", "livemax"]


class Readiness(Collector):
    """Whether the whole service is ready, from any worker."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """One gauge."""
        ready = self._state.ready and not self._state.draining
        yield GaugeMetricFamily("labelserve_ready", "1 while the service is ready.", int(ready))


class Memory(Collector):
    """The memory of all of the service's processes, and its limit in bytes.

    Proportional shares (PSS): pages that workers share are counted once, not once for each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def collect(self) -> Iterator[Metric]:
        """Two gauges; the first only where the kernel tells (Linux)."""
        try:
            held = sum(_proportional_bytes(pid) for pid in _processes())
        except OSError:
            held = 0  # not Linux, or a worker has just ended: no figure instead of a wrong one
        if held:
            yield GaugeMetricFamily(
                "labelserve_memory_bytes", "Memory of all processes (proportional shares).", held
            )
        yield GaugeMetricFamily(
            "labelserve_memory_limit_bytes",
            "The container's memory limit, or all of the machine's memory.",
            self._limit,
        )


class Totals(NamedTuple):
    """Of one version of a model: requests that were answered and refused, and images predicted.

    ``phases``: the seconds of all requests in each phase.
    """

    answered: int = 0
    refused: int = 0
    images: int = 0
    phases: Mapping[str, float] = MappingProxyType({})


class Metrics:
    """Every metric of the service, and how a request is counted in them.

    Args:
        state: what the workers share.
        memory_limit: bytes that the service may use.
        routes: those whose series exist from the start.
        reasons: the short names of refusals, likewise.
    """

    def __init__(
        self,
        state: SharedState,
        memory_limit: int,
        routes: Sequence[str] = (),
        reasons: Sequence[str] = (),
    ) -> None:
        self._registry = CollectorRegistry()
        self._readiness = Readiness(state)
        self._memory = Memory(memory_limit)
        self._registry.register(self._readiness)
        self._registry.register(self._memory)
        self.requests = self._counter("requests", "Requests answered.", "route", "status")
        self.seconds = self._histogram(
            "request_duration_seconds", "From the request's head to its answer.", _SECONDS, "route"
        )
        self.phase_seconds = self._histogram(
            "phase_duration_seconds",
            "Time of answered requests in each phase: decode, wait, inference, background.",
            _SECONDS,
            "phase",
        )
        self.in_flight = self._gauge(
            "requests_in_flight", "Predictions in flight, waiting ones included.", "livesum"
        )
        self.rejected = self._counter("rejected", "Requests refused.", "reason")
        self.image_bytes = self._histogram("image_bytes", "Bytes of decoded images.", _BYTES)
        self.image_pixels = self._histogram(
            "image_pixels", "Pixels of decoded images, before resizing.", _PIXELS
        )
        self.predictions = self._counter(
            "predictions", "Answers by their most probable label.", "label"
        )
        self.top_probability = self._histogram(
            "top_probability", "Probability of the most probable label.", _PROBABILITIES
        )
        self.familiarity = self._histogram(
            "familiarity", "Share of held-back images that look stranger.", _SHARES
        )
        self.unfamiliar = self._counter(
            "unfamiliar", "Images below the familiarity that the model's card sets as a threshold."
        )
        self.shadow = self._counter(
            "shadow", "Answered images that another version was to be asked about.", "result"
        )
        self.shadow_difference = self._histogram(
            "shadow_difference",
            "Largest difference of a probability between the answer and the shadow's.",
            _SHARES,
        )
        self.model_info = self._gauge(
            "model_info", "1 for the version that answers by default.", "livemax", "name", "version"
        )
        self.model_requests = self._counter(
            "model_requests", "Requests that a version of a model answered.", *_VERSION, "status"
        )
        self.model_images = self._counter(
            "model_images", "Images that a version of a model answered.", *_VERSION
        )
        self.model_phase_seconds = self._counter(
            "model_phase_seconds", "Seconds of a version's requests in a phase.", *_VERSION, "phase"
        )
        self.model_loads = self._counter(
            "model_loads", "Model files opened by a worker, and refused ones.", "result"
        )
        self.worker_restarts = self._counter(
            "worker_restarts", "Workers that took the place of one that had ended."
        )
        self.log_lines_dropped = self._counter(
            "log_lines_dropped", "Lines of the log that nobody read in time."
        )
        self.spans_dropped = self._counter(
            "spans_dropped", "Spans of traces that the collector did not take in time."
        )
        # To find a series by its labels costs more than to count in it; there are few of them.
        self._requests = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._phase_seconds = cache(self.phase_seconds.labels)
        self._predictions = cache(self.predictions.labels)
        self._model_requests = cache(self.model_requests.labels)
        self._model_images = cache(self.model_images.labels)
        self._model_phase_seconds = cache(self.model_phase_seconds.labels)
        if prometheus.replaces_another():
            self.worker_restarts.inc()
        self._begin_at_zero(routes, reasons)
        self._defaults: set[tuple[str, str]] = set()
        self._named_labels: set[str] = set()

    def add_version(self, name: str, number: int, version: str, labels: Sequence[str]) -> None:
        """Have the series of a version that was opened, at 0.

        The labels of all versions of all models have ``MAX_LABELS`` names together: those of the
        first that are opened, from the front of each.

        Args:
            name: of the model, as its requests are counted.
            number: of the version.
            version: as its card says.
            labels: of the model.

        Raises:
            NoRoom: there is none for all of them.
        """
        new = [label for label in dict.fromkeys(labels) if label not in self._named_labels]
        named = new[: MAX_LABELS - len(self._named_labels)]
        self.model_info.labels(name, version)
        for label in named if named == new else (*named, OTHER_LABELS):
            self.predictions.labels(label)
        for status in _STATUSES:
            self.model_requests.labels(name, number, status)
        self.model_images.labels(name, number)
        for phase in _PHASES:
            self.model_phase_seconds.labels(name, number, phase)
        self.model_loads.labels("loaded").inc()
        self._named_labels.update(named)

    def show_defaults(self, defaults: Collection[tuple[str, str]]) -> None:
        """Report these as what answers by default: names, and versions as their cards say."""
        for gone in self._defaults - {*defaults}:
            self.model_info.labels(*gone).set(0)
        for name, version in defaults:
            self.model_info.labels(name, version).set(1)
        self._defaults = {*defaults}

    def observe(self, records: Sequence[RequestRecord]) -> None:
        """Count answered requests."""
        alike: dict[tuple[str, int], list[RequestRecord]] = {}
        for record in records:
            alike.setdefault((record.route, record.status), []).append(record)
            if record.problem is not None:
                self.rejected.labels(record.problem).inc()
        for (route, status), some in alike.items():
            self._requests(route, status).inc(len(some))
            prometheus.observe_all(self._seconds(route), [record.seconds for record in some])
        for phase in _PHASES:
            spent = [record.phases[phase] for record in records if phase in record.phases]
            prometheus.observe_all(self._phase_seconds(phase), spent)
        self._observe_versions(records)
        images = [image for record in records for image in record.images]
        prometheus.observe_all(self.image_bytes, [image_bytes for image_bytes, _ in images])
        prometheus.observe_all(self.image_pixels, [pixels for _, pixels in images])
        top = [one for record in records for one in record.top]
        for label, times in prometheus.counted(label for label, _ in top).items():
            self._predictions(label if label in self._named_labels else OTHER_LABELS).inc(times)
        prometheus.observe_all(self.top_probability, [probability for _, probability in top])
        looked = [one for record in records for one in record.familiarity]
        prometheus.observe_all(self.familiarity, [share for share, _ in looked])
        self.unfamiliar.inc(sum(unfamiliar for _, unfamiliar in looked))

    def _observe_versions(self, records: Sequence[RequestRecord]) -> None:
        found: dict[tuple[str, int], list[RequestRecord]] = {}
        for record in records:
            if record.model:
                found.setdefault((record.model, record.version), []).append(record)
        for version, some in found.items():
            for status, times in prometheus.counted(record.status for record in some).items():
                self._model_requests(*version, status).inc(times)
            self._model_images(*version).inc(sum(len(record.top) for record in some))
            for phase in {phase for record in some for phase in record.phases}:
                spent = sum(record.phases.get(phase, 0.0) for record in some)
                self._model_phase_seconds(*version, phase).inc(spent)

    def to_text(self) -> bytes:
        """Prometheus' text format, over all workers."""
        if prometheus.FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = prometheus.all_workers_registry()
        registry.register(self._readiness)
        registry.register(self._memory)
        return generate_latest(registry)

    def totals(self) -> dict[tuple[str, int], Totals]:
        """What each version has answered so far, over all workers, by its model and its number."""
        all_workers = prometheus.FOLDER_VARIABLE in os.environ
        registry = prometheus.all_workers_registry() if all_workers else self._registry
        found: dict[tuple[str, int], list[Sample]] = {}
        for family in registry.collect():
            for sample in family.samples:
                if sample.labels.keys() >= {*_VERSION}:
                    model, number = (sample.labels[label] for label in _VERSION)
                    found.setdefault((model, int(number)), []).append(sample)
        return {version: _totals(samples) for version, samples in found.items()}

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"labelserve_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str, mode: _GaugeMode, *labels: str) -> Gauge:
        return Gauge(
            f"labelserve_{name}", about, labels, multiprocess_mode=mode, registry=self._registry
        )

    def _histogram(
        self, name: str, about: str, buckets: Sequence[float], *labels: str
    ) -> Histogram:
        return Histogram(
            f"labelserve_{name}", about, labels, buckets=buckets, registry=self._registry
        )

    def _begin_at_zero(self, routes: Sequence[str], reasons: Sequence[str]) -> None:
        for route in routes:
            self.seconds.labels(route)
            for status in _STATUSES:
                self.requests.labels(route, status)
        for reason in (*reasons, *_PLAIN_REASONS):
            self.rejected.labels(reason)
        for phase in _PHASES:
            self.phase_seconds.labels(phase)
        for result in _LOADS:
            self.model_loads.labels(result)
        for result in _SHADOWS:
            self.shadow.labels(result)


def _totals(samples: Sequence[Sample]) -> Totals:
    """Of all samples of one version."""
    found = [(one.name.removeprefix("labelserve_model_"), one.labels, one.value) for one in samples]
    requests = [
        (labels["status"] == "200", int(times))
        for what, labels, times in found
        if what == "requests_total"
    ]
    return Totals(
        answered=sum(times for succeeded, times in requests if succeeded),
        refused=sum(times for succeeded, times in requests if not succeeded),
        images=sum(int(times) for what, _, times in found if what == "images_total"),
        phases={
            labels["phase"]: spent for what, labels, spent in found if what == "phase_seconds_total"
        },
    )


def _processes() -> list[int]:
    """This worker, and under gunicorn its master and siblings too."""
    if prometheus.FOLDER_VARIABLE not in os.environ:
        return [os.getpid()]
    master = os.getppid()
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii")
    return [master, *map(int, children.split())]


def _proportional_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
