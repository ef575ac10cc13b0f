"""The model being served, and its replacement while requests are answered.

The file, or the folder that has it, is looked at every few seconds, and at once after SIGHUP. A
changed file has to look the same twice, so that one that is being copied is left alone. Then it is
opened beside the old model, answers its warm-up, and replaces the old one between two requests. A
file that cannot be used is refused, once, and the old model stays. The same bytes in another file
are no new model.
"""

import logging
from hashlib import sha256
from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelTooLarge, UnknownProvider
from service.inference.model_files import model_file, model_size, model_state, read_model
from service.runtime.metrics import Metrics
from service.runtime.prometheus import NoRoom
from service.runtime.shared_bytes import SharedBytes
from service.runtime.sizing import Sizing
from service.serving.context import Headers
from service.serving.errors import UnknownModel
from service.serving.served import ONLY_VERSION, Asked, Served
from service.settings import PREFIX, SettingsError

_LOG = logging.getLogger("labelserve.model")


class Models:
    """The model that answers. ``current`` may be replaced at any time: a request takes it once.

    Args:
        sizing: the settings' model file, how to open it, and the memory there is.
        last_model: the last-known-good model's bytes, which all workers share.
        metrics: told of each model that is taken, or refused.
        classifier: to answer with instead of the file.

    Raises:
        ModelError: the file cannot be used, and no worker has used one before.
        SettingsError: there is no such execution provider.
    """

    def __init__(
        self,
        sizing: Sizing,
        last_model: SharedBytes,
        metrics: Metrics,
        classifier: Classifier | None = None,
    ) -> None:
        self._sizing = sizing
        self._path = sizing.settings.model
        self._last_model = last_model
        self._metrics = metrics
        # Before the file is read: a later change is noticed.
        self._taken = self._seen = model_state(self._path)
        # Digests of the bytes that answer, and of those that were refused last.
        self._answering = self._refused = b""
        self.current = classifier or self._first()
        if classifier:
            self._report(classifier)

    @property
    def name(self) -> str:
        """What the model is called in ``/v1`` and ``/v2``: as set, else as its card says."""
        return self._sizing.settings.name or self.current.card.name

    def choose(self, asked: Asked, headers: Headers, request_id: str) -> Served:  # noqa: ARG002
        """What answers a request for predictions, decided here alone, once for each request.

        A request that names no version is answered by the model's default, or by its version with
        the label ``canary``, for the share that ``LABELSERVE_CANARY_PERCENT`` says.

        Args:
            asked: the model and the version that the request names.
            headers: may have ``X-Canary-Key``: the same key is always answered by the same version.
            request_id: the key of a request without that header.

        Raises:
            UnknownModel: as of ``find``.
        """
        return self.find(asked)

    def find(self, asked: Asked) -> Served:
        """The version that is named, or the default: for what describes it, or compares with it.

        Raises:
            UnknownModel: none of that name is served, or not in that version or with that label;
                the message says what there is.
        """
        current, name = self.current, self.name
        if asked.name not in ("", name):
            raise UnknownModel(f"no model {asked.name!r} is served here, there is {name!r}")
        if asked.version not in ("", str(ONLY_VERSION)):
            raise UnknownModel(
                f"{name!r} has no version {asked.version!r}, there is {ONLY_VERSION}"
            )
        return Served(name, ONLY_VERSION, (), current)

    def look(self, *, now: bool = False) -> None:
        """Look at the file once; ``now`` takes a change without waiting for a second look."""
        state = model_state(self._path)
        same, self._seen = state == self._seen, state
        if state is None or state == self._taken or not (same or now):
            return
        self._taken = state  # a file that is refused is not opened again
        self._replace()

    def _first(self) -> Classifier:
        """The file's model; the last-known-good one where the file cannot be used."""
        try:
            return self._take(*self._read())
        except ModelError as error:
            data = self._last_model.load()
            if data is None:
                raise
            self._metrics.model_loads.labels("refused").inc()
            _LOG.error("model refused, the last-known-good one answers: %s", error)
            self._answering = sha256(data).digest()
            return self._open(data, self._path)

    def _replace(self) -> None:
        before = self.current.card
        try:
            data, file = self._read()
            if self._is_known(data):
                return
            classifier = self._take(data, file)
        except ModelError as error:
            self._metrics.model_loads.labels("refused").inc()
            fields = {"version_kept": before.version}
            _LOG.error("new model refused: %s", error, extra={"fields": fields})
            return
        self.current = classifier
        card = classifier.card
        fields = {"name": card.name, "version": card.version, "version_before": before.version}
        _LOG.info("new model answers", extra={"fields": fields})

    def _is_known(self, data: bytes) -> bool:
        """Whether these bytes answer already, or were refused just now."""
        digest = sha256(data).digest()
        known = digest in (self._answering, self._refused)
        self._refused = b"" if digest == self._answering else digest  # until they are taken
        return known

    def _report(self, classifier: Classifier) -> None:
        card = classifier.card
        try:
            self._metrics.use_model(card.name, card.version, card.labels)
        except NoRoom as error:
            self._refused = b""  # later there may be room
            raise ModelTooLarge(f"its labels need more room for metrics: {error}") from error

    def _read(self) -> tuple[bytes, Path]:
        """The model file's bytes, and where it is."""
        file = model_file(self._path)
        self._check_room(file)
        return read_model(file), file

    def _take(self, data: bytes, file: Path) -> Classifier:
        """Open these bytes, and keep them as the last-known-good model."""
        classifier = self._open(data, file)
        self._answering, self._refused = sha256(data).digest(), b""
        self._last_model.store(data)
        return classifier

    def _check_room(self, file: Path) -> None:
        size = model_size(file)
        if not self._sizing.has_room(size):
            needed, memory = self._sizing.needed_memory(size), self._sizing.machine.memory
            raise ModelTooLarge(
                f"model file {file} needs {needed / 1e6:.0f} MB of memory,"
                f" and there are {memory / 1e6:.0f} MB"
            )

    def _open(self, data: bytes, file: Path) -> Classifier:
        """Open a model, and report it: one whose metrics have no room is not used."""
        providers = self._sizing.settings.providers
        try:
            classifier = Classifier.open(
                data, file, threads=self._sizing.inference_threads, providers=providers
            )
        except UnknownProvider as error:
            raise SettingsError(f"{PREFIX}PROVIDERS={','.join(providers)}: {error}") from error
        self._report(classifier)
        return classifier
