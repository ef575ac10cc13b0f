"""Prometheus' own checker on the committed files, and scenarios for every alert."""

import re
import subprocess
from pathlib import Path

import pytest

from service.http.app import create_app
from service.http.current import endpoints_of
from service.inference.classifier import Classifier
from service.runtime.shared_state import SharedState, WorkerSlot
from service.settings import Settings
from tests.monitoring import files
from tests.monitoring.tools import program
from tests.server import ROOT

SEVERITIES = {"critical", "warning", "info"}


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool", "prometheus", "alert rules")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", files.PROMETHEUS),
        ("check", "rules", "--lint-fatal", files.ALERTS),
        *(("test", "rules", scenario) for scenario in files.SCENARIOS),
    ],
    ids=lambda arguments: " ".join(getattr(part, "name", part) for part in arguments),
)
def test_promtool_is_content(promtool: str, arguments: tuple[object, ...]) -> None:
    done = subprocess.run(
        [promtool, *map(str, arguments)],
        cwd=files.PROMETHEUS.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_route_for_images_is_watched(tiny_model: Path, tiny_classifier: Classifier) -> None:
    """By the rules and by the dashboard, and no other route is."""
    settings, slot = Settings(model=tiny_model, workers=1), WorkerSlot(SharedState(1), 0)
    app = create_app(settings, tiny_classifier, slot)
    routes = {endpoint.route for endpoint in endpoints_of(app).each}
    rules = app.url_map.iter_rules()
    others = {rule.rule.replace("<", "{").replace(">", "}") for rule in rules} - routes
    text = files.ALERTS.read_text("utf-8") + files.DASHBOARD.read_text("utf-8").replace("\\", "")
    matchers = set(re.findall(r'route=~"(.+?)"', text))
    assert matchers
    for matcher in matchers:
        assert [route for route in routes if not re.fullmatch(matcher, route)] == []
        assert [route for route in others if re.fullmatch(matcher, route)] == []


def test_every_alert_fires_in_a_scenario() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in files.SCENARIOS)
    firing = set(re.findall(r'alertname="(\w+)", alertstate="firing"', text))
    assert firing == {alert.name for alert in files.alerts()}


def test_the_first_scenario_is_healthy_and_knows_every_metric_of_the_rules() -> None:
    healthy = files.load(files.SCENARIOS[0])["tests"][0]
    claims = [claim for claim in healthy["promql_expr_test"] if claim["expr"].startswith("ALERTS")]
    assert claims
    assert all(claim["exp_samples"] == [] for claim in claims)
    given = {series["series"].partition("{")[0] for series in healthy["input_series"]}
    used = set(
        re.findall(r"\blabelserve_\w+\b(?!:)", " ".join(r.expression for r in files.rules()))
    )
    assert used
    assert used <= given


@pytest.mark.parametrize("alert", files.alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: files.Rule) -> None:
    assert alert.name.startswith("Labelserve")
    assert alert.content["labels"]["severity"] in SEVERITIES
    notes = alert.content["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    path, _, anchor = notes["runbook"].partition("#")
    assert anchor == alert.name.lower()
    assert f"\n### {alert.name}\n" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("expression", "operands"),
    [
        ("up == 0", ["up"]),
        ('absent(up{job="x"})', ['up{job="x"}']),
        ("a < 0.85 * b and c > 500", ["a", "0.85 * b", "c"]),
        ("count(count by (v) (info == 1)) > 1", ["count(count by (v) (info == 1))"]),
        ('sum(x{l="a > b and c"}) > 0', ['sum(x{l="a > b and c"})']),
    ],
)
def test_thresholds_are_told_from_what_is_measured(expression: str, operands: list[str]) -> None:
    assert files.measured(expression) == operands
