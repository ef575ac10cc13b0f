"""Containers are replaced behind nginx, under load, as a deployment does it."""

from pathlib import Path

import pytest

from tests.container.conftest import Run
from tests.container.engine import Container
from tests.load.replacing import (
    DRAIN_SECONDS,
    MAX_IN_FLIGHT,
    REPLACEMENTS,
    REQUESTS,
    replace_under_load,
)


@pytest.mark.timeout(300)
def test_no_request_is_lost_while_containers_are_replaced(
    nginx: str, run: Run, tmp_path: Path
) -> None:
    def start(port: int | None) -> Container:
        settings = {
            "LABELSERVE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "LABELSERVE_MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
            "LABELSERVE_WORKERS": "1",
        }
        if port is not None:
            settings["PORT"] = str(port)
        container = run(environment=settings)
        container.wait_ready()
        return container

    outcome, statuses = replace_under_load(start, nginx, tmp_path)
    assert outcome.counts == {200: REQUESTS}
    assert statuses == [0] * REPLACEMENTS
