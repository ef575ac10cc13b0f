"""What monitoring asks: /health/live, /health/ready, /health and /metrics.

None of them waits for a prediction: they take no part in admission, and there are always more
threads than predictions inside.
"""

import msgspec
from flask import Blueprint, Response

from service.web import metrics
from service.web.errors import NotReady
from service.web.service import this_service

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def live() -> Response:
    """The process answers."""
    return _json({"status": "live"})


@blueprint.get("/health/ready")
def ready() -> Response:
    """Every worker has answered its warm-up, and the service is not draining."""
    _check_ready()
    return _json({"status": "ready"})


@blueprint.get("/health")
def health() -> Response:
    """Both, and which model answers."""
    _check_ready()
    card = this_service().predictor.classifier.card
    return _json({"status": "ready", "model": {"name": card.name, "version": card.version}})


@blueprint.get("/metrics")
def scrape() -> Response:
    """Prometheus' text format, over all workers, to the last answer that a client has."""
    service = this_service()
    service.settle()
    service.seat.board.wait_for_counts()
    return Response(service.metrics.to_text(), content_type=metrics.MEDIA_TYPE)


def _check_ready() -> None:
    board = this_service().seat.board
    if board.draining:
        raise NotReady("the service is stopping")
    if not board.ready:
        raise NotReady("a worker has not answered its warm-up yet")


def _json(content: dict[str, object]) -> Response:
    return Response(msgspec.json.encode(content), content_type="application/json")
