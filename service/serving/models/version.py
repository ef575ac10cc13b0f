"""One version of a model in this worker: what is open of it, and why its file is refused.

A changed file has to look the same twice, so that one that is being copied is left alone. Then it
is opened beside the old one, and answers its warm-up. A file that cannot be used is refused, once,
and what it held before stays. The same bytes in another file are no new model.
"""

import logging
from hashlib import sha256
from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelTooLarge, ModelUnreadable
from service.inference.model_files import ModelState, model_file, model_state, read_model, size_in
from service.serving.models.opener import NoRoomForMetrics, Opener
from service.settings import SettingsError

# A state that no file has.
_UNSEEN: ModelState = ()

_LOG = logging.getLogger("labelserve.model")


class Version:
    """A version's file, and what was opened of it.

    ``classifier``: what answers, if anything does; ``size``: how many bytes it was opened from, and
    ``digest`` of which; ``error``: why the file that is there now is refused; ``is_due``: whether
    the file is to be opened.

    Args:
        folder: the name of the model's folder in a folder of models, else empty.
        number: the version's.
        path: its file, or the folder that has it.
        opener: opens it.
    """

    def __init__(self, folder: str, number: int, path: Path, opener: Opener) -> None:
        self._folder = folder
        self.number = number
        self.path = path
        self._opener = opener
        self.classifier: Classifier | None = None
        self.error: ModelError | None = None
        self.is_due = False
        self.size = 0
        self.digest = self._refused = b""
        self._seen: ModelState | None = _UNSEEN
        self._taken: ModelState | None = _UNSEEN
        self._told: tuple[str, bool] | None = None  # that there is no room, and it is wanted

    @property
    def needed(self) -> int:
        """The largest file, in bytes, that is open or is to be; a refused one is not opened."""
        file = 0 if self._seen == self._taken else size_in(self._seen)
        return file if self.classifier is None else max(self.size, file)

    def look(self, *, now: bool) -> None:
        """Look at the file once; ``now`` takes a change without waiting for a second look."""
        state = model_state(self.path)
        same, self._seen = state == self._seen, state
        goes_on = state is None and self.classifier is not None
        self.is_due = state != self._taken and (same or now) and not goes_on

    def open(self) -> ModelError | None:
        """Open the file that was looked at.

        Returns:
            Why it is refused, if it was not refused before.

        Raises:
            SettingsError: there is no such execution provider.
        """
        self.is_due, self._taken = False, self._seen  # a file that is refused is not opened again
        self._told = None
        before = self.error
        try:
            self._read()
        except NoRoomForMetrics as error:
            self._taken, self.error = _UNSEEN, error  # later there may be room
            return None if isinstance(before, NoRoomForMetrics) else error
        except ModelError as error:
            self.error = error
            return error
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001  the others are opened all the same
            _LOG.exception("model %s could not be opened", self.path)
            self.error = ModelUnreadable(f"model {self.path} cannot be opened: {error!r}")
            return self.error
        return None

    def use(self, classifier: Classifier) -> None:
        """Answer with this one instead of the file, until that changes."""
        self._seen = self._taken = model_state(self.path)
        self._opener.report(classifier, self._folder, self.number)
        self.classifier = classifier

    def restore(self, data: bytes) -> None:
        """Answer with these bytes, which have answered before.

        Raises:
            ModelError: they cannot be used.
        """
        self._take(data, sha256(data).digest(), self.path)

    def give_up(self, error: ModelTooLarge, *, keep: bool, is_wanted: bool) -> ModelError | None:
        """There is no room for its file; ``keep`` what is open of it.

        Returns:
            The error, if it is a new one, or somebody wants the version now.
        """
        if not keep:
            self.classifier, self.size, self.digest = None, 0, b""
        self._taken = _UNSEEN  # later there may be room
        told, self._told, self.error = self._told, (str(error), is_wanted), error
        return None if told == self._told else error

    def _read(self) -> None:
        file = model_file(self.path)
        data = read_model(file)
        digest = sha256(data).digest()
        if digest == self._refused:
            return
        if digest != self.digest:
            try:
                self._take(data, digest, file)
            except NoRoomForMetrics:
                raise
            except ModelError:
                self._refused = digest
                raise
        self._refused, self.error = b"", None

    def _take(self, data: bytes, digest: bytes, file: Path) -> None:
        self.classifier = self._opener.open(data, file, self._folder, self.number)
        self.size, self.digest = len(data), digest
