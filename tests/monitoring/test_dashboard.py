"""The Grafana dashboard as a file: what Grafana would stumble over, what it leaves unwatched."""

import re
from itertools import combinations
from typing import Any

import yaml

from service.runtime.metrics import Metrics
from service.runtime.shared_state import SharedState
from tests.monitoring import files
from tests.server import ROOT

PROVISIONING = files.DOCKER / "grafana" / "provisioning"


def test_panels_have_a_place_and_a_meaning() -> None:
    everything = files.dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in files.panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"] is not None
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
    for one, other in combinations(everything, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)


def test_rates_look_back_as_far_as_the_scrapes_ask() -> None:
    expressions = [target["expr"] for panel in files.panels() for target in panel["targets"]]
    windows = re.findall(r"\b(?:rate|increase)\(.+?\[(.+?)\]", "\n".join(expressions))
    assert set(windows) == {"$__rate_interval", "5m"}


def test_every_metric_of_the_service_is_watched() -> None:
    exported = re.findall(
        r"^# TYPE (\S+)", Metrics(SharedState(1), 0).to_text().decode(), re.MULTILINE
    )
    own = {name for name in exported if not name.endswith("_created")}
    assert len(own) > 10
    watched = [target["expr"] for panel in files.panels() for target in panel["targets"]]
    watched += [rule.expression for rule in files.rules()]
    text = " ".join(watched)
    assert {name for name in own if not re.search(rf"\b{name}(?:_bucket|_sum)?\b", text)} == set()


def test_provisioning_points_at_what_compose_mounts() -> None:
    source = _only(yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text()))
    scraped = files.load(files.PROMETHEUS)["global"]["scrape_interval"]
    # Grafana makes $__rate_interval of it: a wrong one leaves rates without data.
    assert source["jsonData"]["timeInterval"] == scraped
    provider = _only(yaml.safe_load((PROVISIONING / "dashboards/labelserve.yml").read_text()))
    services = files.load(files.DOCKER / "compose.yaml")["services"]
    mounts = [mount.split(":") for mount in services["grafana"]["volumes"]]
    inside = {target: host for host, target, *_ in mounts}
    dashboard = f"{provider['options']['path']}/labelserve.json"
    assert (files.DOCKER / inside[dashboard]).resolve() == files.DASHBOARD
    assert (files.DOCKER / inside["/etc/grafana/provisioning"]).resolve() == PROVISIONING
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert ROOT in files.DASHBOARD.parents


def _only(content: dict[str, Any]) -> dict[str, Any]:
    (entry,) = content.get("datasources") or content["providers"]
    assert isinstance(entry, dict)
    return entry


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not beside and not above
