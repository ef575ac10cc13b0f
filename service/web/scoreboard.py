"""What the workers of one service share: settings, who is ready, and whether it is draining.

The master makes the board before it forks; workers write one byte each into shared memory. Slots
are reused: the worker that replaces a dead one takes over its slot, and with it its metrics' files.
"""

import mmap
import time
from collections.abc import Collection
from dataclasses import dataclass
from struct import Struct

from service.settings import Settings
from service.web.last_good import LastGood

# Of one worker, modulo 2**32: its connections, the answers it has given, those that are counted.
_NUMBERS = Struct("III")
_NUMBER = Struct("I")
_CONNECTIONS, _ANSWERED, _COUNTED = 0, 4, 8

# How often, and for how long at most, somebody looks whether another worker has counted.
_LOOK_SECONDS = 0.001
_COUNT_SECONDS = 0.25


class Scoreboard:
    """Numbers of each slot, and behind them single bytes.

    Byte 0: draining; byte 1: SIGHUPs so far, modulo 256; byte 2: a worker could not start; byte
    3 + slot: that worker is ready.

    ``settings``: the master's, for workers that start later, whatever the machine is like by then;
    ``last_good``, ``last_keys``: the model and the digests of API keys that were read last.
    """

    def __init__(self, slots: int, settings: Settings | None = None) -> None:
        self.slots = slots
        self.settings = settings
        self._memory = mmap.mmap(-1, slots * _NUMBERS.size + 3 + slots)
        self._numbers = memoryview(self._memory)[: slots * _NUMBERS.size]
        self._shared = memoryview(self._memory)[slots * _NUMBERS.size :]
        self.last_good = LastGood()
        self.last_keys = LastGood()

    @property
    def draining(self) -> bool:
        """Whether the service has been told to stop."""
        return self._shared[0] == 1

    def drain(self) -> None:
        """Tell all workers that no further requests are wanted."""
        self._shared[0] = 1

    @property
    def hangups(self) -> int:
        """How often the master was sent SIGHUP, modulo 256."""
        return self._shared[1]

    def hang_up(self) -> None:
        """Tell all workers of a SIGHUP."""
        self._shared[1] = (self._shared[1] + 1) % 256

    @property
    def ready(self) -> bool:
        """Whether every slot has a worker that has answered its warm-up."""
        return all(self._shared[3:])

    def set_ready(self, slot: int, *, ready: bool) -> None:
        """Say whether the worker in this slot can answer."""
        self._shared[3 + slot] = int(ready)

    def set_connections(self, slot: int, count: int) -> None:
        """Say how many clients are connected to the worker in this slot."""
        self._put(slot, _CONNECTIONS, count)

    def fewest_connections(self) -> int:
        """How many clients the worker with the fewest has."""
        return min(int(count) for count, _, _ in _NUMBERS.iter_unpack(self._numbers))

    def add_answered(self, slot: int) -> None:
        """The worker in this slot is about to send an answer."""
        self._put(slot, _ANSWERED, self._get(slot, _ANSWERED) + 1)

    def add_counted(self, slot: int, answers: int) -> None:
        """It has counted and logged so many."""
        self._put(slot, _COUNTED, self._get(slot, _COUNTED) + answers)

    def wait_for_counts(self) -> None:
        """Wait until every answer that anybody can have by now is counted.

        That is a matter of milliseconds, or of a worker that has ended or hangs: it is not waited
        for longer than a moment.
        """
        deadline = time.monotonic() + _COUNT_SECONDS
        for slot in range(self.slots):
            answered = self._get(slot, _ANSWERED)
            while (self._get(slot, _COUNTED) - answered) % 2**32 >= 2**31:
                if time.monotonic() >= deadline:
                    return
                time.sleep(_LOOK_SECONDS)

    def clear(self, slot: int) -> None:
        """The worker in this slot is gone: it is not ready, and has no connections."""
        self.set_ready(slot, ready=False)
        _NUMBERS.pack_into(self._numbers, slot * _NUMBERS.size, 0, 0, 0)

    def _get(self, slot: int, place: int) -> int:
        (number,) = _NUMBER.unpack_from(self._numbers, slot * _NUMBERS.size + place)
        return int(number)

    def _put(self, slot: int, place: int, number: int) -> None:
        _NUMBER.pack_into(self._numbers, slot * _NUMBERS.size + place, number % 2**32)

    def first_failure(self) -> bool:
        """Whether this is the first worker that cannot start: one says why, for all of them."""
        first = not self._shared[2]
        self._shared[2] = 1
        return first

    def free_slot(self, taken: Collection[int]) -> int:
        """The lowest slot that is not taken; more workers than slots share the last."""
        return next((slot for slot in range(self.slots) if slot not in taken), self.slots - 1)


@dataclass(frozen=True)
class Seat:
    """One worker's place on the board."""

    board: Scoreboard
    slot: int

    def set_ready(self, *, ready: bool) -> None:
        """Say whether this worker can answer."""
        self.board.set_ready(self.slot, ready=ready)


_taken: list[Seat] = []


def take_seat(seat: Seat) -> None:
    """Give this process its place, before its application is made (gunicorn's ``post_fork``)."""
    _taken[:] = [seat]


def current_seat() -> Seat:
    """This process's place; one on a board of its own where no hook has given any."""
    return _taken[0] if _taken else Seat(Scoreboard(1), 0)
