"""What monitoring asks: /health/live, /health/ready, /health and /metrics.

None of them waits for a prediction: they take no part in admission, and there are always more
threads than predictions in flight.
"""

from typing import Literal

import msgspec
from flask import Blueprint, Response

from service.http.current import current_service
from service.http.predict import ModelName
from service.runtime.metrics import MEDIA_TYPE
from service.serving.errors import NotReady

METRICS = "/metrics"


class Status(msgspec.Struct, frozen=True):
    """What a probe asks for."""

    status: Literal["live", "ready"]


class Health(msgspec.Struct, frozen=True):
    """The service is ready, and which model answers."""

    status: Literal["ready"]
    model: ModelName


blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def live() -> Response:
    """The process answers."""
    return _json(Status("live"))


@blueprint.get("/health/ready")
def ready() -> Response:
    """Every worker has answered its warm-up, and the service is not draining."""
    _check_ready()
    return _json(Status("ready"))


@blueprint.get("/health")
def health() -> Response:
    """The same, and which model answers."""
    _check_ready()
    return _json(Health("ready", ModelName.of(current_service().models.current)))


@blueprint.get(METRICS)
def scrape() -> Response:
    """Prometheus' text format, over all workers, with every answer sent so far."""
    service = current_service()
    service.admission.publish()
    service.accounting.flush()
    service.slot.state.wait_for_counts()
    return Response(service.metrics.to_text(), content_type=MEDIA_TYPE)


def _check_ready() -> None:
    state = current_service().slot.state
    if state.draining:
        raise NotReady("the service is stopping")
    if not state.ready:
        raise NotReady("a worker has not answered its warm-up yet")


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), content_type="application/json")
