"""What monitoring asks: /health/live, /health/ready, /health, /ping, /metrics, and /v2/health.

None of them waits for a prediction: they take no part in admission, and there are always more
threads than predictions in flight.
"""

from typing import Literal

import msgspec
from flask import Blueprint, Flask, Response
from msgspec import UNSET, UnsetType

from service.http.current import current_context, current_service
from service.http.flask_responses import json_answer
from service.http.predict import ModelName
from service.runtime.metrics import MEDIA_TYPE
from service.serving.errors import NotReady, UnknownModel
from service.serving.models.catalogue import Catalogue
from service.serving.served import Asked, Served
from service.settings import Settings, SettingsError, variable_name

ROOT = "/"
METRICS = "/metrics"
LIVE = "/health/live"
READY = "/health/ready"


class Status(msgspec.Struct, frozen=True):
    """What a probe asks for."""

    status: Literal["live", "ready"]


class Health(msgspec.Struct, frozen=True):
    """The service is ready, and which model answers where none is named, if one does."""

    status: Literal["ready"]
    model: ModelName | UnsetType = UNSET


class Live(msgspec.Struct, frozen=True):
    """The process answers, as the Open Inference Protocol says it."""

    live: bool


class Ready(msgspec.Struct, frozen=True):
    """The service answers, as the Open Inference Protocol's clients read it."""

    live: bool
    ready: bool


blueprint = Blueprint("health", __name__)


def register(app: Flask, settings: Settings) -> None:
    """Add these routes, and the one that a platform asks, behind all others.

    Raises:
        SettingsError: the platform's is another route already, which would need no key then.
    """
    app.register_blueprint(blueprint)
    route = settings.platform_health_route
    if route in (None, ROOT):  # what answers at the root knows that it is asked
        return
    same = [rule.endpoint for rule in app.url_map.iter_rules() if rule.rule == route]
    if any(not endpoint.startswith(f"{blueprint.name}.") for endpoint in same):
        name = variable_name("platform_health_route")
        raise SettingsError(f"{name}={route} is another route here: choose one such as {READY}")
    if not same:
        app.add_url_rule(route, "platform_health", ready)


@blueprint.get(LIVE)
def live() -> Response:
    """The process answers."""
    return json_answer(Status("live"))


@blueprint.get("/v2/health/live")
def live_by_protocol() -> Response:
    """The same, as the Open Inference Protocol's clients read it."""
    current_context().route = LIVE
    return json_answer(Live(live=True))


@blueprint.get(READY)
@blueprint.get("/ping")
def ready() -> Response:
    """Every worker has answered its warm-up, and the service is not draining.

    SageMaker asks ``/ping``. Whatever the path, it is counted as ``/health/ready``.
    """
    current_context().route = READY
    check_ready()
    return json_answer(Status("ready"))


@blueprint.get("/v2/health/ready")
def ready_by_protocol() -> Response:
    """The same, as the Open Inference Protocol's clients read it."""
    current_context().route = READY
    check_ready()
    return json_answer(Ready(live=True, ready=True))


@blueprint.get("/health")
def health() -> Response:
    """The same, and which model answers."""
    check_ready()
    try:
        classifier = current_service().models.find(Asked()).classifier
    except UnknownModel:  # several are served
        return json_answer(Health("ready"))
    return json_answer(Health("ready", ModelName.of(classifier)))


@blueprint.get(METRICS)
def scrape() -> Response:
    """Prometheus' text format, over all workers, with every answer sent so far."""
    service = current_service()
    service.admission.publish()
    service.accounting.flush()
    service.slot.state.wait_for_counts()
    return Response(service.metrics.to_text(), content_type=MEDIA_TYPE)


def check_version(catalogue: Catalogue, version: str) -> Served:
    """The version of a number or label, or with an empty text the default, which answers.

    Raises:
        UnknownModel: there is no such version.
        NotReady: it is refused or being opened, or nothing can answer by default, and the message
            says why; or as of ``check_ready``.
    """
    try:
        served = catalogue.find(version)
    except UnknownModel as error:
        reasons = [
            f"version {offer.number} of {catalogue.name!r} "
            + (f"is refused: {offer.reason}" if offer.state == "refused" else "is being opened")
            for offer in catalogue.offers
            if offer.served is None and version in ("", str(offer.number))
        ]
        if version and not reasons:
            raise
        raise NotReady("; ".join([*reasons, *catalogue.problems]) or str(error)) from error
    check_ready()
    return served


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
