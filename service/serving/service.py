"""The composition root: builds the parts of one worker's service, and gives each what it needs."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from service.inference.classifier import Classifier
from service.runtime.logs import count_drops
from service.runtime.metrics import Metrics
from service.runtime.shared_state import WorkerSlot, current_slot
from service.runtime.sizing import Sizing
from service.runtime.traces import NoTraces, Traces, traces_wanted
from service.serving.accounting import Accounting
from service.serving.admission import Admission
from service.serving.auth import Auth
from service.serving.batcher import Batcher
from service.serving.models.models import Models
from service.serving.pipeline import Pipeline
from service.serving.problems import KINDS
from service.serving.shadow import Shadow
from service.settings import PREFIX, Settings

_LOG = logging.getLogger("labelserve")


@dataclass(frozen=True)
class Service:
    """The parts, as the server's connections and the Flask routes use them."""

    sizing: Sizing
    slot: WorkerSlot
    metrics: Metrics
    models: Models
    auth: Auth
    admission: Admission
    accounting: Accounting
    batcher: Batcher
    shadow: Shadow
    traces: Traces | None

    @property
    def settings(self) -> Settings:
        """What the operator has set, as far as it fits the machine."""
        return self.sizing.settings

    @classmethod
    def build(
        cls,
        settings: Settings | None = None,
        classifier: Classifier | None = None,
        slot: WorkerSlot | None = None,
        routes: Sequence[str] = (),
    ) -> "Service":
        """Build all parts, and open the models.

        Args:
            settings: by default those of the process's shared state, else of the environment.
            classifier: to answer with instead of the settings' models.
            slot: the worker's slot, by default the one that gunicorn's hooks gave.
            routes: those whose metrics exist from the start.

        Raises:
            SettingsError: a setting cannot be understood or used.
            ModelError: the model cannot be used.
        """
        slot = slot or current_slot()
        state = slot.state
        sizing = state.sizing if settings is None else None
        sizing = sizing or Sizing.fitted(settings or Settings.from_environ())
        settings = sizing.settings
        reasons = [kind.slug for kind in KINDS.values()]
        metrics = Metrics(state, sizing.machine.memory, routes, reasons)
        count_drops(metrics.log_lines_dropped.inc)
        models = Models(sizing, state.last_models, metrics, classifier)
        if slot.number == 0:  # the other workers would say the same
            answering = next(one.default for one in models.catalogues if one.default is not None)
            _LOG.info("inference by %s", ", ".join(answering.classifier.providers))
            _tell_of_shadow(settings.shadow, models)
        auth = Auth(settings, state.last_keys)
        admission = Admission(
            sizing.max_in_flight, metrics.in_flight, by_wait=sizing.admits_by_wait
        )
        traces = _traces(metrics, slot)
        pipeline = Pipeline(settings, sizing.decoders)
        batcher = Batcher(pipeline, sizing.max_batch_size)
        return cls(
            sizing=sizing,
            slot=slot,
            metrics=metrics,
            models=models,
            auth=auth,
            admission=admission,
            accounting=Accounting(metrics, slot, traces),
            batcher=batcher,
            traces=traces,
            shadow=Shadow(models, settings, pipeline, batcher.background, metrics),
        )


def _traces(metrics: Metrics, slot: WorkerSlot) -> Traces | None:
    """The worker's traces, if they are asked for and can be had.

    A cluster may set OpenTelemetry's variables in every container, whatever is in it: they keep no
    service from starting.
    """
    try:
        return Traces(metrics.spans_dropped.inc) if traces_wanted(os.environ) else None
    except NoTraces as error:
        if slot.number == 0:  # the other workers would say the same
            _LOG.warning("requests are not traced: %s", error)
        return None


def _tell_of_shadow(wanted: str | None, models: Models) -> None:
    """Warn of a shadow that compares nothing: a label may lead to another version later."""
    found = [(one.found.get(wanted), one.default) for one in models.catalogues] if wanted else []
    if wanted and all(other in (None, default) for other, default in found):
        _LOG.warning(
            "%sSHADOW=%s names no version beside the one that answers: nothing is compared until"
            " it does",
            PREFIX,
            wanted,
        )
