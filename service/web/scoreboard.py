"""What the workers of one service share: settings, who is ready, and whether it is draining.

The master makes the board before it forks; workers write one byte each into shared memory. Slots
are reused: the worker that replaces a dead one takes over its slot, and with it its metrics' files.
"""

import mmap
from collections.abc import Collection
from dataclasses import dataclass
from struct import Struct

from service.settings import Settings
from service.web.last_good import LastGood

_COUNT = Struct("I")


class Scoreboard:
    """Byte 0: draining; byte 1: SIGHUPs so far, modulo 256; byte 2 + slot: that worker is ready.

    Behind them, a byte for the first failure, and 4 bytes a slot: the worker's connections.

    ``settings``: the master's, for workers that start later, whatever the machine is like by then;
    ``last_good``, ``last_keys``: the model and the digests of API keys that were read last.
    """

    def __init__(self, slots: int, settings: Settings | None = None) -> None:
        self.slots = slots
        self.settings = settings
        self._shared = mmap.mmap(-1, slots + 3 + 4 * slots)
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
        return all(self._shared[2 : self.slots + 2])

    def set_ready(self, slot: int, *, ready: bool) -> None:
        """Say whether the worker in this slot can answer."""
        self._shared[2 + slot] = int(ready)

    def set_connections(self, slot: int, count: int) -> None:
        """Say how many clients are connected to the worker in this slot."""
        _COUNT.pack_into(self._shared, self.slots + 3 + 4 * slot, count)

    def fewest_connections(self) -> int:
        """How many clients the worker with the fewest has."""
        counts = _COUNT.iter_unpack(self._shared[self.slots + 3 :])
        return min(int(count) for (count,) in counts)

    def first_failure(self) -> bool:
        """Whether this is the first worker that cannot start: one says why, for all of them."""
        first = not self._shared[self.slots + 2]
        self._shared[self.slots + 2] = 1
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
