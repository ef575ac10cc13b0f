"""The model being served, and its replacement while requests are answered.

The file, or the folder that has it, is looked at every few seconds, and at once after SIGHUP. A
changed file has to look the same twice, so that one that is being copied is left alone. Then it is
opened beside the old model, answers its warm-up, and replaces the old one between two requests. A
file that cannot be used is refused, once, and the old model stays. The same bytes in another file
are no new model.
"""

import logging
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import ModelError, ModelTooLarge, UnknownProvider
from service.inference.model_files import model_file, model_size, model_state, read_model
from service.runtime.metrics import Metrics
from service.runtime.prometheus import NoRoom
from service.runtime.shared_bytes import SharedBytes
from service.runtime.sizing import Sizing
from service.serving.errors import UnknownModel
from service.settings import PREFIX, SettingsError

# Other protocols count versions. One file is served, whatever the version on its card.
VERSION = "1"
# So do OVMS' clients where they want the version that answers by default.
_VERSIONS = ("0", VERSION)

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

    def find(self, arguments: Mapping[str, str]) -> Classifier:
        """The model that a path asks for.

        Args:
            arguments: ``name``, ``version`` and ``label`` (of a version), as far as the path has
                them.

        Raises:
            UnknownModel: none of that name is served, or not in that version.
        """
        current, name = self.current, self.name
        if arguments.get("name", name) != name:
            raise UnknownModel(f"no model {arguments['name']!r} is served here, there is {name!r}")
        if arguments.get("version", VERSION) not in _VERSIONS:
            raise UnknownModel(
                f"{name!r} has no version {arguments['version']!r}, there is {VERSION!r}"
            )
        if "label" in arguments:
            raise UnknownModel(f"{name!r} has no version labels, ask for version {VERSION!r}")
        return current

    def beside(self, classifier: Classifier, wanted: str) -> Classifier | None:  # noqa: ARG002
        """Another version of the same model; None if there is none, or it is the same.

        Args:
            classifier: a version that answers.
            wanted: a label, or a version's number.
        """
        return None

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
