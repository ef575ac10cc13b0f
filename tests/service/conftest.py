"""Servers that several test modules share, and their logs where a test fails."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import WORKERS, Server, start_server


@pytest.fixture(scope="session", params=WORKERS)
def server(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    """A server with default limits, once under each worker. Tests leave it as they found it."""
    with start_server(tiny_model, worker=request.param) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        values: dict[str, Any] = getattr(item, "funcargs", {})
        for name, value in values.items():
            if isinstance(value, Server):
                report.sections.append((f"log of {name}", value.story))
    return report
