"""A worker that is killed while it starts: gunicorn would start another, for ever."""

import os
import signal

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from service.runtime.shared_state import SharedState

_REASONS = {
    signal.SIGILL: "the processor lacks instructions that an installed package needs",
    signal.SIGKILL: "perhaps memory was too little",
    signal.SIGBUS: "perhaps /dev/shm is too small",
}


class FailedStart:
    """gunicorn's ``handle_chld``: a worker killed before its slot was ever ready ends the service.

    Later on, another one takes its slot, as gunicorn sees to.
    """

    def __init__(self, arbiter: Arbiter, state: SharedState) -> None:
        self._arbiter = arbiter
        self._state = state
        self._reap = arbiter.handle_chld

    def __call__(self) -> None:
        for pid, worker in self._arbiter.WORKERS.items():
            number = _killed_by(pid)
            started = self._state.was_ready(self._arbiter.slots[worker])
            if number is not None and not started and not self._state.draining:
                self._end(pid, number)
        self._reap()

    def _end(self, pid: int, number: signal.Signals) -> None:
        if self._state.first_failure():
            reason = _REASONS.get(number, "a fault in an installed package")
            self._arbiter.log.critical(
                "cannot start: worker %d was ended by %s before it could answer: %s",
                pid,
                number.name,
                reason,
            )
        raise HaltServer("Worker failed to boot.", Arbiter.WORKER_BOOT_ERROR)


def _killed_by(pid: int) -> signal.Signals | None:
    """The signal that has ended a child, which is still to be waited for; None without one."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None or ended.si_code == os.CLD_EXITED:
        return None
    return signal.Signals(ended.si_status)
