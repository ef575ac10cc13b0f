"""What is measured: cells, each one load on every server."""

from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.images import PHOTOGRAPH, SIZES, SMALL
from tests.benchmarks.models import DEFAULT, MODELS

CONNECTIONS = (1, 4, 16, 64, 256, 1024)
WORKERS = (1, 2)
BATCHES = (1, 4, 16, 64)


@dataclass(frozen=True)
class Cell:
    """One load: ``connections`` that send ``image``, or ``batch`` of it in a form."""

    model: str = DEFAULT
    workers: int = 2
    image: str = SMALL
    connections: int = 16
    batch: int = 0


@dataclass(frozen=True)
class Plan:
    """Tables, each a title, what its rows are called, and a cell for every row."""

    rounds: int
    seconds: float
    tables: dict[str, dict[str, Cell]]

    def cells(self) -> list[Cell]:
        """Every cell once, those of one model and number of workers together."""
        cells = {cell for table in self.tables.values() for cell in table.values()}
        return sorted(cells, key=lambda c: (c.model, c.workers, c.batch, c.image, c.connections))


def full_plan(model: str = DEFAULT, rounds: int = 3, seconds: float = 4) -> Plan:
    """All of it; ``model`` takes the default's place."""
    base = Cell(model=model)
    models = (model, *(name for name in MODELS if name != DEFAULT))
    tables = {
        "concurrency": {str(n): replace(base, connections=n) for n in CONNECTIONS},
        "image": {name: replace(base, image=name) for name in SIZES},
        "model": {Path(name).stem: replace(base, model=name) for name in models},
        "workers": {str(n): replace(base, workers=n) for n in WORKERS},
        "batch": {str(n): replace(base, connections=4, batch=n) for n in BATCHES},
    }
    return Plan(rounds, seconds, tables)


def quick_plan(model: str = DEFAULT) -> Plan:
    """A look at everything, for less than two minutes."""
    full = full_plan(model, rounds=1, seconds=1)
    kept = {
        "concurrency": ("1", "16", "64"),
        "image": (SMALL, PHOTOGRAPH),
        "model": (Path(model).stem, "wide"),
        "workers": tuple(map(str, WORKERS)),
        "batch": ("1", "16"),
    }
    tables = {
        name: {row: cell for row, cell in table.items() if row in kept[name]}
        for name, table in full.tables.items()
    }
    return replace(full, tables=tables)
