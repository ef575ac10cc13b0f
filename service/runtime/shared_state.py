"""What the workers of one service share: sizes, readiness, draining, counts, last-known-good bytes.

The master makes it before it forks; workers write into shared memory. Slots are reused: the worker
that replaces a dead one takes its slot, and with it its metrics' files.
"""

import mmap
import time
from collections.abc import Collection
from dataclasses import dataclass
from struct import Struct

from service.runtime.shared_bytes import SharedBytes
from service.runtime.sizing import Sizing

# Of one worker, modulo 2**32: its connections, its answers, and how many of those are counted.
_NUMBERS = Struct("III")
_NUMBER = Struct("I")
_CONNECTIONS, _ANSWERED, _COUNTED = 0, 4, 8

# A scrape looks this often, and this long at most, whether the other workers have counted.
_POLL_SECONDS = 0.001
_COUNT_SECONDS = 0.25


class SharedState:
    """Numbers of each slot, and behind them single bytes.

    Byte 0: draining; byte 1: SIGHUPs so far, modulo 256; byte 2: a worker could not start; byte
    3 + slot: 1 while that worker is ready, 2 when it no longer is.

    ``sizing``: what the master worked out, for workers that start later too; ``last_models``,
    ``last_keys``: what of the models answers, and the digests of API keys that were read last.
    """

    def __init__(self, slots: int, sizing: Sizing | None = None) -> None:
        self.slots = slots
        self.sizing = sizing
        self._memory = mmap.mmap(-1, slots * _NUMBERS.size + 3 + slots)
        self._numbers = memoryview(self._memory)[: slots * _NUMBERS.size]
        self._shared = memoryview(self._memory)[slots * _NUMBERS.size :]
        self.last_models = SharedBytes()
        self.last_keys = SharedBytes()

    @property
    def draining(self) -> bool:
        """Whether the service has been told to stop."""
        return self._shared[0] == 1

    def drain(self) -> None:
        """Tell all workers that the service stops."""
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
        return all(byte == 1 for byte in self._shared[3:])

    def was_ready(self, slot: int) -> bool:
        """Whether a worker in this slot has ever been ready."""
        return self._shared[3 + slot] != 0

    def set_ready(self, slot: int, *, ready: bool) -> None:
        """Say whether the worker in this slot can answer."""
        if ready or self.was_ready(slot):
            self._shared[3 + slot] = 1 if ready else 2

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
        """It has counted and logged this many."""
        self._put(slot, _COUNTED, self._get(slot, _COUNTED) + answers)

    def wait_for_counts(self) -> None:
        """Wait until every answer sent so far is counted, by every worker.

        That takes milliseconds. A worker that has ended or hangs is waited for a quarter of a
        second.
        """
        deadline = time.monotonic() + _COUNT_SECONDS
        for slot in range(self.slots):
            answered = self._get(slot, _ANSWERED)
            while (self._get(slot, _COUNTED) - answered) % 2**32 >= 2**31:
                if time.monotonic() >= deadline:
                    return
                time.sleep(_POLL_SECONDS)

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
class WorkerSlot:
    """One worker's place in the shared state."""

    state: SharedState
    number: int

    def set_ready(self, *, ready: bool) -> None:
        """Say whether this worker can answer."""
        self.state.set_ready(self.number, ready=ready)

    def set_connections(self, count: int) -> None:
        """Say how many clients are connected to this worker."""
        self.state.set_connections(self.number, count)

    def add_answered(self) -> None:
        """This worker is about to send an answer."""
        self.state.add_answered(self.number)

    def add_counted(self, answers: int) -> None:
        """This worker has counted and logged this many."""
        self.state.add_counted(self.number, answers)


_taken: list[WorkerSlot] = []


def take_slot(slot: WorkerSlot) -> None:
    """Give this process its slot, before its application is made (gunicorn's ``post_fork``)."""
    _taken[:] = [slot]


def current_slot() -> WorkerSlot:
    """This process's slot; one in a state of its own where no hook has given any."""
    return _taken[0] if _taken else WorkerSlot(SharedState(1), 0)
