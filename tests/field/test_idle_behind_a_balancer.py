"""A balancer that keeps an idle connection for a minute closes it before the service does."""

import re

from service.settings import Settings
from tests.server import ROOT

# Of AWS and of nginx.
COMMON_SECONDS = 60


def test_the_default_outlives_common_balancers() -> None:
    assert Settings().keep_alive > COMMON_SECONDS


def test_what_the_table_advises_outlives_each_balancer() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("### Idle connections")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .* \| ([\d,]+) s.*\| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == 7
    for kept, advice in rows:
        numbers = re.findall(r"\d+$", advice)
        chosen = float(numbers[0]) if numbers else Settings().keep_alive
        assert advice == "default" or numbers
        assert chosen > float(kept.replace(",", ""))
