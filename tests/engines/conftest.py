"""One environment for each engine, with the very packages of our lock beside it."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engines.programs import PACKAGES
from tests.environments import python_with


@pytest.fixture(scope="session")
def pythons() -> Iterator[Mapping[str, Future[Path]]]:
    """The interpreter of each engine. They are set up at the same time."""
    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(python_with, *packages) for name, packages in PACKAGES.items()}
