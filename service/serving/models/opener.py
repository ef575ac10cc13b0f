"""Model files become classifiers, within this machine's memory and the room for metrics."""

from pathlib import Path

from service.inference.classifier import Classifier
from service.inference.errors import ModelTooLarge, UnknownProvider
from service.runtime.metrics import Metrics
from service.runtime.prometheus import NoRoom
from service.runtime.sizing import Sizing
from service.settings import PREFIX, SettingsError


class NoRoomForMetrics(ModelTooLarge):
    """A model's series do not fit; later they may."""


class Opener:
    """Opens model files, and has monitoring know of them.

    Args:
        sizing: how to open them.
        metrics: has the series of each version.
    """

    def __init__(self, sizing: Sizing, metrics: Metrics) -> None:
        self._sizing = sizing
        self._metrics = metrics

    def open(self, data: bytes, file: Path, folder: str, number: int) -> Classifier:
        """Open a model and warm it up.

        Args:
            data: the file's bytes.
            file: where they are.
            folder: the name of the model's folder in a folder of models, else empty.
            number: of the version.

        Raises:
            ModelError: it cannot be used.
            SettingsError: there is no such execution provider.
        """
        providers = self._sizing.settings.providers
        try:
            classifier = Classifier.open(
                data, file, threads=self._sizing.inference_threads, providers=providers
            )
        except UnknownProvider as error:
            raise SettingsError(f"{PREFIX}PROVIDERS={','.join(providers)}: {error}") from error
        self.report(classifier, folder, number)
        return classifier

    def report(self, classifier: Classifier, folder: str, number: int) -> None:
        """Have its series in the metrics.

        Raises:
            NoRoomForMetrics: there is none.
        """
        card = classifier.card
        try:
            self._metrics.add_version(
                self.name_of(classifier, folder), number, card.version, card.labels
            )
        except NoRoom as error:
            raise NoRoomForMetrics(f"its labels need more room for metrics: {error}") from error

    def name_of(self, classifier: Classifier, folder: str) -> str:
        """What a model is called: by its folder among models, else as set, else by its card."""
        return folder or self._sizing.settings.name or classifier.card.name

    def count_refusal(self) -> None:
        """Have one more refused file counted."""
        self._metrics.model_loads.labels("refused").inc()
