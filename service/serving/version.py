"""One version of a model in this worker: what is open of it, and why its file is refused.

A changed file has to look the same twice, so that one that is being copied is left alone. Then it
is opened beside the old one, and answers its warm-up. A file that cannot be used is refused, once,
and what it held before stays. The same bytes in another file are no new model.
"""

from hashlib import sha256
from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelTooLarge
from service.inference.model_files import ModelState, model_file, model_state, read_model
from service.serving.opener import NoRoomForMetrics, Opener

# A state that no file has.
_UNSEEN: ModelState = ()


class Version:
    """A version's file, and what was opened of it.

    ``classifier``: what answers, if anything does; ``size``: how many bytes it was opened from, and
    ``digest`` of which; ``error``: why the file that is there now is refused.

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
        self.size = 0
        self.digest = self._refused = b""
        self._seen: ModelState | None = _UNSEEN
        self._taken: ModelState | None = _UNSEEN

    @property
    def is_judged(self) -> bool:
        """Whether its file, as it is now, was opened or refused."""
        return model_state(self.path) == self._taken

    def look(self, *, now: bool) -> ModelError | None:
        """Look at the file once; ``now`` takes a change without waiting for a second look.

        Returns:
            Why a file is refused that was not refused before.
        """
        state = model_state(self.path)
        same, self._seen = state == self._seen, state
        if state == self._taken or not (same or now):
            return None
        self._taken = state  # a file that is refused is not opened again
        if state is None and self.classifier is not None:
            return None
        try:
            self._read()
        except ModelError as error:
            self.error = error
            return error
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
        self._take(data, self.path)

    def give_up(self, error: ModelTooLarge, *, keep: bool) -> ModelError | None:
        """There is no room for its file; ``keep`` what is open of it.

        Returns:
            The error, if it is a new one.
        """
        if not keep:
            self.classifier, self.size, self.digest = None, 0, b""
        self._taken = _UNSEEN  # later there may be room
        known, self.error = str(self.error) == str(error), error
        return None if known else error

    def _read(self) -> None:
        file = model_file(self.path)
        data = read_model(file)
        digest = sha256(data).digest()
        if digest == self.digest:
            self._refused, self.error = b"", None
        elif digest != self._refused:
            self._refused = digest  # until it is taken
            try:
                self._take(data, file)
            except NoRoomForMetrics:
                self._refused = b""
                raise
            self._refused, self.error = b"", None

    def _take(self, data: bytes, file: Path) -> None:
        self.classifier = self._opener.open(data, file, self._folder, self.number)
        self.size, self.digest = len(data), sha256(data).digest()
