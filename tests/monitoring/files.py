"""What docker/ holds for monitoring, read the way Prometheus and Grafana read it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.server import ROOT

DOCKER = ROOT / "docker"
PROMETHEUS = DOCKER / "prometheus" / "prometheus.yml"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
DASHBOARD = DOCKER / "grafana" / "labelserve.json"
SCENARIOS = sorted(Path(__file__).parent.glob("*.test.yml"))

_COMPARISON = re.compile(r"\s(?:==|!=|>=|<=|>|<)\s")
_JOINT = re.compile(r"\s(?:and|or|unless)\s")
_NUMBER = re.compile(r"[0-9.]+")
_WINDOW = re.compile(r"\[(\d+)([smhd])\]")


@dataclass(frozen=True)
class Rule:
    """A recording rule or an alert."""

    name: str
    expression: str
    alerts: bool
    content: dict[str, Any]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[Rule]:
    """All of them, in their order."""
    return [
        Rule(rule.get("alert") or rule["record"], rule["expr"].strip(), "alert" in rule, rule)
        for group in load(ALERTS)["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.alerts]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panels() -> list[dict[str, Any]]:
    """The panels that show data, without the rows between them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def measured(expression: str) -> list[str]:
    """What an alert's expression looks at: its operands, without thresholds.

    A healthy service has no result for ``x > 0.05``, and that alone says nothing: a misspelt metric
    has none either. So ``x`` is what has to have data, as has each side of an ``and``.
    """
    absent = re.fullmatch(r"absent\((.*)\)", expression.strip(), re.DOTALL)
    if absent:
        return [absent.group(1)]
    claims = _split_outside(expression, _JOINT)
    operands = [operand for claim in claims for operand in _split_outside(claim, _COMPARISON)]
    return [operand for operand in operands if not _NUMBER.fullmatch(operand)]


def shortened(text: str, seconds: int) -> str:
    """The same with windows of a few seconds: a test has no day to look back on."""
    return _WINDOW.sub(f"[{seconds}s]", text)


def _split_outside(expression: str, operator: re.Pattern[str]) -> list[str]:
    """Split where an operator stands outside all brackets and quotes."""
    parts, start = [], 0
    for found in operator.finditer(expression):
        before = re.sub(r'"[^"]*"', '""', expression[: found.start()])
        if all(before.count(a) == before.count(b) for a, b in ("()", "{}", "[]")):
            parts.append(expression[start : found.start()].strip())
            start = found.end()
    return [*parts, expression[start:].strip()]
