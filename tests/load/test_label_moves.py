"""The label moves in short: ``python -m tests.load.label_moves`` is the long one."""

from pathlib import Path

import pytest

from tests.load.label_moves import (
    BROKEN,
    SERVER_WORKERS,
    Answer,
    Move,
    Seen,
    move_labels,
    write_versions,
)
from tests.server import WORKERS, start_server

REQUESTS, MOVES, POLL_SECONDS = 1500, 6, 0.3
# The machine may be busy; that a move is noticed in time is for the long run to say.
ALLOWED_SECONDS = 10.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("worker", WORKERS)
def test_no_request_is_lost_while_labels_are_moved(tmp_path: Path, worker: str) -> None:
    folder = write_versions(tmp_path / "versions")
    settings = {"worker": worker, "model_poll_seconds": POLL_SECONDS}
    with start_server(folder, workers=SERVER_WORKERS, **settings) as server:
        seen = move_labels(server, folder, REQUESTS, MOVES)
        assert set(seen.statuses) == {200}
        assert len(seen.answers) >= REQUESTS
        assert [move.to for move in seen.moves] == [2, 1, BROKEN, 1, 2, 1]
        assert seen.orders == [[1, 2, 1, 2, 1]] * len(seen.connections)
        assert seen.invalid(ALLOWED_SECONDS) == []
        assert set(seen.probes) == {200}
        answered = server.metric("labelserve_requests_total", route="/predict", status="200")
        assert answered == len(seen.answers)
        assert not server.tracebacks


def test_an_answer_of_another_time_is_seen() -> None:
    """The check itself: version 1 until 10, version 2 until 20, then 1 again."""
    moves = [Move(10, 11, 2, 2), Move(14, 15, BROKEN, 2), Move(20, 21, 1, 1)]
    good = [Answer(5, 6, 200, 1), Answer(11.5, 12, 200, 1), Answer(9, 10, 200, 2)]
    good += [Answer(15, 16, 200, 2), Answer(21.9, 22, 200, 2), Answer(20, 20, 200, 1)]
    bad = [Answer(8, 9, 200, 2), Answer(13, 14, 200, 1), Answer(23, 24, 200, 2)]
    bad += [Answer(16, 17, 200, BROKEN), Answer(16, 17, 0, 0)]
    assert Seen([good], moves).invalid(1) == []
    assert Seen([bad], moves).invalid(1) == bad
    assert Seen([good], moves).delays == [0.5, pytest.approx(0.9)]
