"""A server that the tests of images share, once under each worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import WORKERS, Server, start_server


@pytest.fixture(scope="session", params=WORKERS)
def server(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model, worker=request.param) as running:
        yield running
