"""Files that may change while the service runs: the model, and the API keys."""

import logging
import threading
import time

from service.runtime.shared_state import SharedState
from service.serving.auth import Auth, UnusableKeys
from service.serving.models.models import Models

_LOG = logging.getLogger("labelserve.watcher")
# How often a SIGHUP is looked for.
_HANGUP_SECONDS = 0.25


class Watcher:
    """Looks at both files every ``poll_seconds``, and at once after SIGHUP.

    What is to be opened is opened one by one, so that keys and labels are followed in between.
    """

    def __init__(self, models: Models, auth: Auth, state: SharedState, poll_seconds: float) -> None:
        self._models = models
        self._auth = auth
        self._state = state
        self._poll_seconds = poll_seconds
        self._hangups = state.hangups
        self._complaint = ""  # about the keys, as logged last

    def start(self) -> None:
        """Watch from a thread of its own, until the process ends."""
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()

    def _watch(self) -> None:
        due = 0.0
        while True:
            time.sleep(_HANGUP_SECONDS)
            hangups = self._state.hangups
            hung_up = hangups != self._hangups
            if hung_up or time.monotonic() >= due:
                self._hangups = hangups
                due = time.monotonic() + self._poll_seconds
                self._look(now=hung_up)
            else:
                self._go_on()

    def _look(self, *, now: bool) -> None:
        try:
            self._refresh_keys()
            self._models.look(now=now)
        except Exception:  # noqa: BLE001  the next look may work
            _LOG.exception("the model or the keys could not be looked at")

    def _go_on(self) -> None:
        try:
            self._models.go_on()
        except Exception:  # noqa: BLE001  as above
            _LOG.exception("the next version could not be opened")

    def _refresh_keys(self) -> None:
        try:
            self._auth.refresh()
        except UnusableKeys as error:
            if str(error) != self._complaint:
                _LOG.warning("the keys stay: the file of API keys %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""
