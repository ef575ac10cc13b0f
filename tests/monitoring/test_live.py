"""A real Prometheus watches a real service under real traffic.

Nothing here is asked of the files alone: every expression of the alerts and of the dashboard is
evaluated where an operator's would be, and has to have data.
"""

import math
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.monitoring import files
from tests.monitoring.prometheus import Prometheus, start_prometheus
from tests.monitoring.tools import program
from tests.monitoring.traffic import Traffic
from tests.server import Server, eventually, start_server
from tests.tiny_model import write_with_familiarity

# Stands for every window, an hour's and a day's too: all of the traffic fits.
WINDOW = 120
SECONDS = 2.5

# What the traffic brings about sooner or later, whatever the machine's speed.
ALWAYS = {
    ("/predict", "400"),
    ("/predict", "415"),
    ("/predict", "422"),
    ("/predict/batch", "429"),
    ("/model", "200"),
    ("unmatched", "404"),
}


@dataclass(frozen=True)
class Watched:
    """A service that has seen everything, and the Prometheus that saw it."""

    server: Server
    prometheus: Prometheus
    traffic: Traffic


@pytest.fixture(scope="module")
def prometheus_program() -> str:
    return program("prometheus", "prometheus", "metrics, alerts and dashboard")


@pytest.fixture(scope="module")
def blind(
    prometheus_program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It watches a port where nothing listens. Its alerts take some seconds to fire."""
    folder = tmp_path_factory.mktemp("blind")
    with start_prometheus(prometheus_program, folder, "127.0.0.1:1", WINDOW) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def watched(
    prometheus_program: str,
    blind: Prometheus,  # noqa: ARG001  it is started first: its alerts come while this one works
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    for number in ("1", "2"):
        (folder / "versions" / number).mkdir(parents=True)
        model = write_with_familiarity(folder / "versions" / number / "model.onnx")
    # The highest version answers, and the other one is asked too.
    settings = {"workers": 2, "max_in_flight": 2, "model_poll_seconds": 0.3, "shadow": "1"}
    with start_server(folder / "versions", shadow_percent=100, **settings) as server:
        target = f"127.0.0.1:{server.port}"
        with start_prometheus(prometheus_program, folder, target, WINDOW) as prometheus:
            assert eventually(lambda: prometheus.query("labelserve_ready"))
            traffic = Traffic(server)
            traffic.offer(SECONDS)
            _swap_models(server, model)
            _kill_a_worker(server)
            while not set(traffic.tally) >= ALWAYS:  # most are refused while the service is full
                traffic.offer(SECONDS)
            _wait_for_scrapes(prometheus)
            yield Watched(server, prometheus, traffic)


def _swap_models(server: Server, model: Path) -> None:
    """A good one, which is taken up, then a broken one, which is refused; by both workers."""
    beside = model.with_suffix(".new")
    write_with_familiarity(beside, version="test-2").replace(model)
    assert eventually(lambda: server.metric("labelserve_model_loads_total", result="loaded") == 6)
    beside.write_bytes(b"no model")
    beside.replace(model)
    assert eventually(lambda: server.metric("labelserve_model_loads_total", result="refused") == 2)
    write_with_familiarity(beside, version="test-2").replace(model)
    assert eventually(lambda: server.metric("labelserve_model_loads_total", result="loaded") == 8)


def _kill_a_worker(server: Server) -> None:
    """While nothing is in flight, so that all that was answered can be counted to the last."""
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in server.workers and len(server.workers) == 2)
    assert eventually(server.ready)


def _wait_for_scrapes(prometheus: Prometheus) -> None:
    """Until everything that has happened so far was scraped, and its rules evaluated."""
    asked = prometheus.value("time()")
    seen = 'min(timestamp(up{job="labelserve"})) > '
    assert eventually(lambda: prometheus.query(f"{seen} {asked + 2}"), 30)


def test_prometheus_counts_what_the_clients_were_answered(watched: Watched) -> None:
    prometheus, tally = watched.prometheus, watched.traffic.tally
    samples = prometheus.query("sum by (route, status) (labelserve_requests_total)")
    counted = {(labels["route"], labels["status"]): value for labels, value in samples}
    # Some requests were abandoned: what became of them shows in no client's tally. They were either
    # left (499), turned away, or answered to a closed connection.
    exact = [key for key in tally if key not in (("/predict", "200"), ("/predict", "429"))]
    assert set(exact) >= ALWAYS
    assert {key: counted.get(key) for key in exact} == {key: tally[key] for key in exact}
    assert counted["/predict", "200"] >= tally["/predict", "200"] > 0
    assert counted["/predict", "429"] >= tally["/predict", "429"] > 0
    assert counted["/predict", "500"] == 0


def test_predictions_are_counted_once_each(watched: Watched) -> None:
    by_label = watched.prometheus.value("sum(labelserve_predictions_total)")
    assert by_label == watched.prometheus.value("sum(labelserve_top_probability_count)")
    images = watched.prometheus.value("sum(labelserve_image_bytes_count)")
    assert images >= by_label >= watched.traffic.predictions


def test_what_happened_to_workers_and_models_is_seen(watched: Watched) -> None:
    prometheus = watched.prometheus
    assert prometheus.value("labelserve_worker_restarts_total") == 1
    assert prometheus.value('labelserve_model_loads_total{result="refused"}') == 2
    # Two versions of two workers, two swaps of two, and two of the worker that took over.
    assert prometheus.value('labelserve_model_loads_total{result="loaded"}') == 10
    ((labels, _),) = prometheus.query("labelserve_model_info == 1")
    assert labels["version"] == "test-2"
    assert prometheus.value("labelserve_ready") == 1
    assert prometheus.value("labelserve_requests_in_flight") == 0


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    groups = watched.prometheus.api("rules")["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(found) == {rule.name for rule in files.rules()}
    assert {name: rule.get("lastError", "") for name, rule in found.items()} == dict.fromkeys(
        found, ""
    )
    assert {rule["health"] for rule in found.values()} == {"ok"}


def test_alerts_fire_for_what_has_happened(watched: Watched) -> None:
    def firing() -> set[str]:
        alerts = watched.prometheus.api("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    expected = {
        "LabelserveOverloaded",
        "LabelserveModelRefused",
        "LabelserveWorkerRestarts",
    }
    assert eventually(lambda: expected <= firing())
    assert not firing() & {
        "LabelserveDown",
        "LabelserveMissing",
        "LabelserveNotReady",
        "LabelserveHighErrorRate",
        "LabelserveInternalError",
        "LabelserveMemoryNearLimit",
        "LabelserveMixedModelVersions",
    }


@pytest.mark.parametrize("rule", files.rules(), ids=lambda rule: rule.name)
def test_a_rule_has_data(watched: Watched, rule: files.Rule) -> None:
    operands = files.measured(rule.expression) if rule.alerts else [rule.expression]
    for operand in operands:
        _assert_data(watched.prometheus, operand)
    if not rule.alerts:
        _assert_data(watched.prometheus, rule.name)


@pytest.mark.parametrize("panel", files.panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_data(watched: Watched, panel: dict[str, object]) -> None:
    targets = panel["targets"]
    assert isinstance(targets, list)
    assert targets
    for target in targets:
        _assert_data(watched.prometheus, _filled_in(target["expr"]))


def test_the_dashboards_alerts_are_drawn(watched: Watched) -> None:
    annotations = files.dashboard()["annotations"]["list"]
    assert annotations
    for annotation in annotations:
        _assert_data(watched.prometheus, _filled_in(annotation["expr"]))


def test_the_dashboards_choices_are_filled(watched: Watched) -> None:
    queries = {
        variable["name"]: variable["query"]["query"]
        for variable in files.dashboard()["templating"]["list"]
        if variable["type"] == "query"
    }
    assert set(queries) == {"job", "instance"}
    expected = {"job": ["labelserve"], "instance": [f"127.0.0.1:{watched.server.port}"]}
    for name, query in queries.items():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found, query
        values = watched.prometheus.api(
            f"label/{found[2]}/values", **{"match[]": _filled_in(found[1])}
        )
        assert values == expected[name]


def test_an_operator_is_told_when_the_service_is_gone(blind: Prometheus) -> None:
    def told() -> str:
        alerts = blind.api("alerts")["alerts"]
        return "".join(
            alert["annotations"]["summary"]
            for alert in alerts
            if alert["labels"]["alertname"] == "LabelserveDown" and alert["state"] == "firing"
        )

    assert eventually(told)
    assert told() == "127.0.0.1:1 does not answer Prometheus"


def _filled_in(expression: str) -> str:
    """As Grafana would send it, with its variables' first values."""
    filled = files.shortened(expression, WINDOW)
    for name, value in (("rate_interval", f"{WINDOW}s"), ("interval", "1s"), ("range", "60s")):
        filled = filled.replace(f"$__{name}", value)
    filled = filled.replace("$job", "labelserve").replace("$instance", ".+")
    assert "$" not in filled, filled
    return filled


def _assert_data(prometheus: Prometheus, expression: str) -> None:
    samples = prometheus.query(files.shortened(expression, WINDOW))
    assert any(math.isfinite(value) for _labels, value in samples), (expression, samples)
