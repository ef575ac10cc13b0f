"""Tables say what was measured, and a page keeps what stands around them."""

from pathlib import Path

import pytest

from tests.benchmarks.load import Load
from tests.benchmarks.measure import Measured, Results, Started
from tests.benchmarks.plan import Cell, Plan, full_plan, quick_plan
from tests.benchmarks.plot import plot
from tests.benchmarks.report import Rounds, good, replace_between, tables
from tests.benchmarks.servers import FASTAPI, FLASK, OURS, SERVERS

CELL = Cell(connections=16)


def measured(
    number: int, server: str, answers: int, cell: Cell = CELL, refused: int = 0
) -> Measured:
    load = Load(2.0, answers, refused, 0, p50_ms=answers / 100, p99_ms=answers / 10)
    return Measured(number, server, cell, load, alone=500.0, cores=[0.9, 0.8])


def rows(text: str, title: str) -> dict[str, list[str]]:
    """A table's rows by their first cell."""
    _, _, rest = text.partition(f"### {title}")
    section = rest.partition("###")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in cells}


def test_ratios_are_of_the_same_round() -> None:
    """A machine that was twice as fast in one round is so for both."""
    speeds = [(1, 1000, 500), (2, 2000, 1000), (3, 900, 300)]
    found = [measured(number, OURS, ours) for number, ours, _ in speeds]
    found += [measured(number, FLASK, theirs) for number, _, theirs in reversed(speeds)]
    ours, theirs = (Rounds(Results(found, []), name, CELL) for name in (OURS, FLASK))
    assert ours.median(good) == 500
    assert ours.ratio(theirs) == 2
    assert not Rounds(Results(found, []), FASTAPI, CELL)


def test_tables_have_a_row_for_every_cell() -> None:
    plan = quick_plan()
    found = [
        measured(number, server, 1000 * number, cell, refused=100)
        for cell in plan.cells()
        for server in SERVERS
        for number in (1, 2, 3)
        if server == OURS or not cell.batch
    ]
    started = [
        Started(n, OURS, "default", 2, ready_seconds=n / 4, memory_bytes=n * 10**8)
        for n in (1, 2, 3)
    ]
    text = tables(plan, Results(found, started))
    connections = rows(text, "Connections")
    assert list(connections)[2:] == ["1", "16", "64"]
    speed, p50, p99, of_limit, refused, *peers = connections["16"]
    assert speed == "950 [450 to 1450]"
    assert (p50, p99, refused) == ("20", "200", "5%")
    assert float(of_limit) > 0
    assert peers[3] == peers[7] == "**1.00**"
    assert len(rows(text, "Images in one form")["16"]) == 5  # no other server takes forms
    assert rows(text, "Start and memory")[OURS] == ["default", "2", "0.50", "200"]


def test_forms_count_by_images() -> None:
    assert good(measured(1, OURS, 10, Cell(batch=16))) == 80


def test_the_quick_plan_is_a_part_of_the_full_one() -> None:
    quick, full = quick_plan(), full_plan()
    assert set(quick.cells()) < set(full.cells())
    assert quick.tables.keys() == full.tables.keys()
    assert all(quick.tables.values())
    assert len(set(full.cells())) == len(full.cells())


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    plan = quick_plan()
    found = [measured(1, server, 1000, cell) for cell in plan.cells() for server in SERVERS[:2]]
    plot(plan, Results(found, []), tmp_path / "plot.png")
    data = (tmp_path / "plot.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 200_000


def test_text_around_the_markers_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- bench:results -->", "<!-- /bench:results -->"
    page.write_text(f"before\n\n{begin}\nold\n{end}\n\nbehind\n", encoding="utf-8")
    for text in ("new", "newer"):
        replace_between(page, "results", text)
        assert page.read_text(encoding="utf-8") == (
            f"before\n\n{begin}\n\n{text}\n\n{end}\n\nbehind\n"
        )


@pytest.mark.parametrize("content", ["nothing", "<!-- bench:results --> and no end"])
def test_a_page_without_markers_is_left_alone(tmp_path: Path, content: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md"):
        replace_between(page, "results", "new")
    assert page.read_text(encoding="utf-8") == content


def test_an_empty_plan_has_no_cells() -> None:
    assert Plan(1, 1, {}).cells() == []
