"""What monitoring reads is what the client sent, to the last count, across workers and restarts."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from service.runtime.metrics import MAX_LABELS, OTHER_LABELS, Metrics
from service.runtime.records import RequestRecord
from service.runtime.shared_state import SharedState
from tests.images import encode
from tests.server import WORKERS, Labels, Server, eventually, multipart, start_server

IMAGES = {
    "red": encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG"),
    "green": encode(Image.new("RGB", (40, 30), (20, 240, 90)), "JPEG"),
    "blue": encode(Image.new("RGB", (300, 200), (20, 40, 190)), "WEBP"),
}
PIXELS = {"red": 63, "green": 1200, "blue": 60000}

Samples = Mapping[tuple[str, Labels], float]


@pytest.fixture(scope="module", params=WORKERS)
def pair(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, worker=request.param, workers=2) as running:
        yield running


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = (name, frozenset(labels.items()))
    return after.get(key, 0) - before.get(key, 0)


def test_counts_are_what_was_sent(pair: Server) -> None:
    before = pair.metrics()
    form, form_headers = multipart(
        ("a", "a", IMAGES["red"]), ("b", "b", b"no image"), ("c", "c", IMAGES["blue"])
    )
    # What is asked, how often, and what it has to be counted as.
    single = [("red", 23), ("green", 17), ("blue", 11)]
    others: list[tuple[str, str, bytes, dict[str, str], str, int, int]] = [
        ("POST", "/predict/batch", form, form_headers, "/predict/batch", 200, 5),
        ("POST", "/predict", b"text", {"Content-Type": "text/plain"}, "/predict", 415, 7),
        ("POST", "/predict", b"GIF89a", {}, "/predict", 422, 3),
        ("POST", "/predict", b"hello", {}, "/predict", 415, 2),
        ("POST", "/predict?top_k=x", IMAGES["red"], {}, "/predict", 400, 4),
        ("POST", "/predict?min_probability=1", IMAGES["red"], {}, "/predict", 200, 2),
        ("POST", "/predict", b"", {}, "/predict", 400, 1),
        ("GET", "/predict", b"", {}, "unmatched", 405, 3),
        ("GET", "/nothing/of/the/kind", b"", {}, "unmatched", 404, 6),
        ("GET", "/model", b"", {}, "/model", 200, 8),
        ("GET", "/health/live", b"", {}, "/health/live", 200, 9),
    ]
    jobs: list[tuple[str, str, bytes, dict[str, str], int]] = []
    for label, times in single:
        jobs += [("POST", "/predict", IMAGES[label], {}, 200)] * times
    for method, path, body, headers, _, status, times in others:
        jobs += [(method, path, body, headers, status)] * times
    with ThreadPoolExecutor(8) as clients:
        replies = clients.map(lambda job: pair.ask(*job[:4]), jobs)
        for job, reply in zip(jobs, replies, strict=True):
            assert reply.status == job[-1], job

    expected: Counter[tuple[str, str]] = Counter({("/predict", "200"): 23 + 17 + 11})
    for _, _, _, _, route, status, times in others:
        expected[route, str(status)] += times
    wanted = sum(expected.values())
    key = "labelserve_requests_total"

    def counted() -> dict[tuple[str, str], float]:
        """By route and status, without this test's own looks at /metrics."""
        after = pair.metrics()
        return {
            (dict(labels)["route"], dict(labels)["status"]): grown(
                before, after, key, **dict(labels)
            )
            for (name, labels) in after
            if name == key and dict(labels)["route"] != "/metrics"
        }

    assert eventually(lambda: sum(counted().values()) >= wanted)
    assert {pair_: n for pair_, n in counted().items() if n} == dict(expected)

    after = pair.metrics()
    by_label = {"red": 23 + 5 + 2, "green": 17, "blue": 11 + 5}
    for label, times in by_label.items():
        assert grown(before, after, "labelserve_predictions_total", label=label) == times
    images = sum(by_label.values())
    assert grown(before, after, "labelserve_top_probability_count") == images
    assert grown(before, after, "labelserve_image_bytes_count") == images
    assert grown(before, after, "labelserve_image_bytes_sum") == sum(
        len(IMAGES[label]) * times for label, times in by_label.items()
    )
    assert grown(before, after, "labelserve_image_pixels_sum") == sum(
        PIXELS[label] * times for label, times in by_label.items()
    )
    for route in ("/predict", "/predict/batch", "/model", "unmatched"):
        requests = sum(times for (r, _), times in expected.items() if r == route)
        name = "labelserve_request_duration_seconds_count"
        assert grown(before, after, name, route=route) == requests
    # One a request that got so far, however many images it held.
    answered = 23 + 17 + 11 + 5 + 2
    name = "labelserve_phase_duration_seconds_count"
    assert grown(before, after, name, phase="inference") == answered
    assert grown(before, after, name, phase="wait") >= answered
    assert grown(before, after, name, phase="decode") >= answered
    rejected = {
        dict(labels)["reason"]: grown(before, after, n, **dict(labels))
        for (n, labels) in after
        if n == "labelserve_rejected_total"
    }
    assert {reason: times for reason, times in rejected.items() if times} == {
        "wrong-media-type": 7,
        "broken-image": 3,
        "unsupported-format": 2,
        "bad-parameter": 4,
        "missing-image": 1,
        "status-404": 6,
        "status-405": 3,
    }
    assert after["labelserve_requests_in_flight", frozenset()] == 0
    assert after["labelserve_model_info", frozenset({("name", "tiny"), ("version", "test-1")})] == 1


def test_counts_outlive_workers(pair: Server) -> None:
    """Killed and replaced between requests: nothing is lost, nothing is counted twice."""
    before = pair.metrics()
    for round_ in range(1, 3):
        for _ in range(15):
            assert pair.post("/predict", IMAGES["green"]).status == 200
        pair.metrics()  # what is answered is counted within 10 ms, or when it is asked for
        victim = pair.workers[round_ % 2]
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: len(set(pair.workers) - {victim}) == 2 and pair.ready())  # noqa: B023
        after = pair.metrics()
        for name, labels in (
            ("labelserve_requests_total", {"route": "/predict", "status": "200"}),
            ("labelserve_predictions_total", {"label": "green"}),
            ("labelserve_request_duration_seconds_count", {"route": "/predict"}),
            ("labelserve_image_bytes_count", {}),
        ):
            assert grown(before, after, name, **labels) == 15 * round_, name
        length = len(IMAGES["green"]) * 15 * round_
        assert grown(before, after, "labelserve_image_bytes_sum") == length


def test_text_is_what_prometheus_reads(pair: Server) -> None:
    reply = pair.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(reply.body.decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names) > 10
    for family in families:
        assert family.name.startswith("labelserve_")
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(series)) == len(series)
        # A label of the client's making would let it fill the memory of Prometheus.
        for sample in family.samples:
            assert "pid" not in sample.labels
            assert sample.labels.get("route", "/").startswith("/") or (
                sample.labels["route"] == "unmatched"
            )


def test_paths_and_methods_of_clients_make_no_series(pair: Server) -> None:
    before = len(pair.metrics())
    for number in range(30):
        pair.get(f"/made-up/{number}")
        pair.ask(f"M{number}", "/predict")
    assert len(pair.metrics()) <= before + 2


def test_gauges_are_there_whichever_worker_answers(pair: Server) -> None:
    for _ in range(10):
        samples = pair.metrics()
        assert samples["labelserve_ready", frozenset()] == 1
        assert samples["labelserve_requests_in_flight", frozenset()] == 0


# ---- without a server ----------------------------------------------------------------------------


def answered(**known: Any) -> RequestRecord:
    """A record of one prediction."""
    nothing: dict[str, Any] = {
        "phases": {},
        "images": [],
        "top": [],
        "familiarity": [],
        "problem": None,
    }
    return RequestRecord("id", "POST", "/predict", 200, 0.0, 0.0, 0, **{**nothing, **known})


def test_counting_several_at_once_is_counting_each() -> None:
    rng = np.random.default_rng(3)
    amounts = [*rng.exponential(0.01, 200), 0.0, 0.0005, 0.1, 30.0, 31.0, 1e9]
    together, alone = Metrics(SharedState(1), 0), Metrics(SharedState(1), 0)
    records = []
    for amount in amounts:
        record = answered(
            phases={"decode": amount, "inference": amount * 2},
            images=[(int(amount * 1e6), int(amount * 1e5))],
            top=[(f"label {amount * 7:.0f}", min(1.0, amount))],
            familiarity=[(min(1.0, amount), amount < 0.001)],
        )
        records.append(record)
        for phase, seconds in record.phases.items():
            alone.phase_seconds.labels(phase).observe(seconds)
        alone.image_bytes.observe(record.images[0][0])
        alone.image_pixels.observe(record.images[0][1])
        alone.top_probability.observe(record.top[0][1])
        alone.familiarity.observe(record.familiarity[0][0])
        alone.unfamiliar.inc(record.familiarity[0][1])
    together.observe(records)
    names = "phase_duration_seconds|image_bytes|image_pixels|top_probability|familiarity"
    series = re.compile(rf"labelserve_(({names})_(bucket|count|sum)|unfamiliar_total)")

    def found(metrics: Metrics) -> dict[str, float]:
        return {
            f"{sample.name} {sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(metrics.to_text().decode())
            for sample in family.samples
            if series.match(sample.name)
        }

    assert len(found(alone)) > 80
    assert found(together) == pytest.approx(found(alone))


def test_very_many_labels_share_one_series() -> None:
    metrics = Metrics(SharedState(1), 0)
    labels = tuple(f"label {number}" for number in range(MAX_LABELS * 3))
    metrics.add_version("tiny", 1, "1", labels)
    for label in labels:
        metrics.observe([answered(top=[(label, 0.5)])])
    samples = predictions(metrics)
    assert len(samples) == MAX_LABELS + 1
    assert samples[OTHER_LABELS] == MAX_LABELS * 2


def test_the_labels_of_all_versions_share_these_series() -> None:
    metrics = Metrics(SharedState(1), 0)
    versions = [tuple(f"{version}-{label}" for label in range(60)) for version in range(4)]
    for number, labels in enumerate(versions, start=1):
        metrics.add_version("tiny", number, str(number), ("cat", *labels))
    assert len(predictions(metrics)) == MAX_LABELS + 1
    metrics.observe([answered(top=[("cat", 0.5)]), answered(top=[("0-59", 0.5)])])
    metrics.observe([answered(top=[("3-0", 0.5)])])
    samples = predictions(metrics)
    assert (samples["cat"], samples["0-59"], samples[OTHER_LABELS]) == (1, 1, 1)
    assert len(samples) == MAX_LABELS + 1


def predictions(metrics: Metrics) -> dict[str, float]:
    """Answers by their label."""
    return {
        sample.labels["label"]: sample.value
        for family in text_string_to_metric_families(metrics.to_text().decode())
        for sample in family.samples
        if sample.name == "labelserve_predictions_total"
    }
