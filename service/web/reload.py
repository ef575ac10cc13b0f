"""Taking up a new model file while requests are answered.

The file is looked at every few seconds, and at once after SIGHUP. A change has to rest for one
look, so that a file that is being copied is left alone; then it is opened beside the old model,
answers its warm-up, and takes over between two requests. A file that does not fit is refused, once,
and the old model stays.
"""

import logging
import threading
import time

from service.inference.classifier import file_state
from service.inference.errors import ModelError
from service.web.service import Service, open_model

_LOG = logging.getLogger("labelserve.model")
_LOOK_SECONDS = 0.25


class ModelWatcher:
    """Watches one worker's model file, and its file of API keys."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._path = service.settings.model
        self._taken = service.model_state
        self._seen = self._taken
        self._hangups = service.seat.board.hangups

    def start(self) -> None:
        """Watch from a thread of its own, as long as the process lives."""
        threading.Thread(target=self._watch, name="model-watcher", daemon=True).start()

    def look(self, *, now: bool = False) -> None:
        """Look at the file once; ``now`` takes a change up without letting it rest."""
        current = file_state(self._path)
        rested, self._seen = current == self._seen, current
        if current is None or current == self._taken or not (rested or now):
            return
        self._taken = current  # also of a file that is refused: once is enough
        self._take_up()

    def _watch(self) -> None:
        due = 0.0
        while True:
            time.sleep(_LOOK_SECONDS)
            hangups = self._service.seat.board.hangups
            called = hangups != self._hangups
            if called or time.monotonic() >= due:
                self._hangups = hangups
                due = time.monotonic() + self._service.settings.model_poll_seconds
                try:
                    self._refresh_keys()
                    self.look(now=called)
                except Exception:  # noqa: BLE001  whatever it is, who watches goes on watching
                    _LOG.exception("the model or the keys could not be looked at")

    def _take_up(self) -> None:
        service = self._service
        before = service.predictor.classifier.card
        try:
            classifier = open_model(service.settings, service.seat)
        except ModelError as error:
            service.metrics.model_loads.labels("refused").inc()
            _LOG.error(
                "new model refused: %s", error, extra={"fields": {"version_kept": before.version}}
            )
            return
        service.use(classifier)
        card = classifier.card
        fields = {"name": card.name, "version": card.version, "version_before": before.version}
        _LOG.info("new model taken up", extra={"fields": fields})

    def _refresh_keys(self) -> None:
        try:
            self._service.access.refresh()
        except OSError as error:
            _LOG.error("the file of API keys cannot be read: %s", error.strerror)
