"""What monitoring asks: /, /health/live, /health/ready, /health and /metrics.

None of them waits for a prediction: they take no part in admission, and there are always more
threads than predictions in flight.
"""

import msgspec
from flask import Blueprint, Response

from service.http.current import current_service
from service.runtime.metrics import MEDIA_TYPE
from service.serving.errors import NotReady

METRICS = "/metrics"

blueprint = Blueprint("health", __name__)


@blueprint.get("/")
def alive() -> Response:
    """The process answers, as KServe's client of version 1 asks it."""
    return _json({"status": "alive"})


@blueprint.get("/health/live")
def live() -> Response:
    """The process answers."""
    return _json({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """Every worker has answered its warm-up, and the service is not draining."""
    check_ready()
    return _json({"status": "ready"})


@blueprint.get("/health")
def health() -> Response:
    """The same, and which model answers."""
    check_ready()
    card = current_service().models.current.card
    return _json({"status": "ready", "model": {"name": card.name, "version": card.version}})


@blueprint.get(METRICS)
def scrape() -> Response:
    """Prometheus' text format, over all workers, with every answer sent so far."""
    service = current_service()
    service.admission.publish()
    service.accounting.flush()
    service.slot.state.wait_for_counts()
    return Response(service.metrics.to_text(), content_type=MEDIA_TYPE)


def check_ready() -> None:
    """Whether predictions are answered.

    Raises:
        NotReady: not yet, or no more.
    """
    state = current_service().slot.state
    if state.draining:
        raise NotReady("the service is stopping")
    if not state.ready:
        raise NotReady("a worker has not answered its warm-up yet")


def _json(content: dict[str, object]) -> Response:
    return Response(msgspec.json.encode(content), content_type="application/json")
