"""What workers tell each other through shared memory."""

import os
import threading
import time

import pytest

from service.runtime.shared_state import SharedState


@pytest.fixture
def board() -> SharedState:
    return SharedState(3)


def test_ready_is_said_of_every_slot(board: SharedState) -> None:
    for slot in range(3):
        assert not board.ready
        board.set_ready(slot, ready=True)
    assert board.ready
    board.clear(1)
    assert not board.ready


def test_a_slot_that_was_ready_is_told_from_one_that_never_was(board: SharedState) -> None:
    board.set_ready(1, ready=True)
    board.clear(0)
    board.clear(1)
    assert [board.was_ready(slot) for slot in range(3)] == [False, True, False]
    board.set_ready(1, ready=True)
    board.clear(1)
    assert board.was_ready(1)


def test_nothing_is_written_over(board: SharedState) -> None:
    board.set_connections(0, 2**32 - 1)
    board.set_connections(2, 7)
    assert board.fewest_connections() == 0
    board.set_connections(1, 300)
    assert board.fewest_connections() == 7
    assert not any((board.draining, board.hangups, board.ready))
    assert board.first_failure()
    assert not board.first_failure()
    assert not any((board.draining, board.hangups, board.ready))
    board.hang_up()
    board.drain()
    assert (board.draining, board.hangups, board.fewest_connections()) == (True, 1, 7)
    board.clear(1)
    assert board.fewest_connections() == 0


def test_another_process_sees_it(board: SharedState) -> None:
    child = os.fork()
    if not child:
        board.set_connections(1, 5)
        board.drain()
        os._exit(0)
    os.waitpid(child, 0)
    board.set_connections(0, 6)
    board.set_connections(2, 6)
    assert board.draining
    assert board.fewest_connections() == 5


def seconds_of_waiting(board: SharedState) -> float:
    begun = time.monotonic()
    board.wait_for_counts()
    return time.monotonic() - begun


def test_what_is_counted_is_not_waited_for(board: SharedState) -> None:
    for _ in range(5):
        board.add_answered(1)
    board.add_counted(1, 5)
    # A hiccup of this machine may have a second look.
    assert min(seconds_of_waiting(board) for _ in range(3)) < 0.1


@pytest.mark.parametrize("before", [0, 2**32 - 2])
def test_counts_are_waited_for(board: SharedState, before: int) -> None:
    """Also where the number goes round."""
    board._put(2, 4, before)
    board._put(2, 8, before)
    for _ in range(4):
        board.add_answered(2)
    done = threading.Event()

    def wait() -> None:
        board.wait_for_counts()
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    board.add_counted(2, 3)
    assert not done.wait(0.05)
    board.add_counted(2, 1)
    thread.join()
    assert done.is_set()


def test_a_worker_that_never_counts_is_not_waited_for_long(board: SharedState) -> None:
    board.add_answered(0)
    assert 0.2 < seconds_of_waiting(board) < 5
    board.clear(0)
    assert min(seconds_of_waiting(board) for _ in range(3)) < 0.1
