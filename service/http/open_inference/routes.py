"""What the protocol's clients ask beside predictions; health is with what monitoring asks."""

from flask import Blueprint, Response

from service.http.current import current_service
from service.http.endpoints import rule_of
from service.http.flask_responses import json_answer
from service.http.health import check_version
from service.http.open_inference.descriptions import (
    IndexedModel,
    ModelReady,
    ServerMetadata,
    model_config,
    model_metadata,
)
from service.http.open_inference.infer import MODELS
from service.http.open_inference.statistics import StatisticsAnswer, statistics
from service.runtime.metrics import Totals
from service.serving.errors import BadParameter
from service.serving.served import Asked

blueprint = Blueprint("open_inference", __name__)

_REPOSITORY = "/v2/repository"


@blueprint.get("/v2")
@blueprint.get("/v2/")
def server() -> Response:
    """What answers here."""
    return json_answer(ServerMetadata())


def metadata(**arguments: str) -> Response:
    """A model's input and output."""
    models, asked = current_service().models, Asked.of(arguments)
    catalogue = models.catalogue(asked)
    return json_answer(model_metadata(catalogue.find(asked.version), catalogue))


def ready(**arguments: str) -> Response:
    """A model is ready; 503 while it is not."""
    asked = Asked.of(arguments)
    catalogue = current_service().models.catalogue(asked)
    check_version(catalogue, asked.version)
    return json_answer(ModelReady(catalogue.name))


def config(**arguments: str) -> Response:
    """A model as Triton configures it."""
    current = current_service()
    asked = Asked.of(arguments)
    catalogue = current.models.catalogue(asked)
    served = catalogue.find(asked.version)
    return json_answer(model_config(served, catalogue, current.settings.max_batch_files))


@blueprint.get("/v2/models/stats")
def stats(**arguments: str) -> Response:
    """What each version has answered, of all models or of what is named."""
    current, asked = current_service(), Asked.of(arguments)
    models = current.models
    if asked.version:
        told = [models.find(asked)]
    else:
        catalogues = [models.catalogue(asked)] if asked.name else models.catalogues
        told = [one for catalogue in catalogues for one in catalogue.served]
    current.accounting.flush()
    totals = current.metrics.totals()
    found = [
        statistics(name, number, totals.get((name, number), Totals())) for name, number, *_ in told
    ]
    return json_answer(StatisticsAnswer(found))


@blueprint.post(f"{_REPOSITORY}/index")
def index() -> Response:
    """All versions of all models."""
    catalogues = current_service().models.catalogues
    return json_answer(
        [IndexedModel.of(one.name, offer) for one in catalogues for offer in one.offers]
    )


@blueprint.post(f"{_REPOSITORY}/models/<name>/load")
@blueprint.post(f"{_REPOSITORY}/models/<name>/unload")
def change(name: str) -> Response:
    """Clients change nothing.

    Raises:
        BadParameter: always, or
        UnknownModel: there is no such model.
    """
    current_service().models.catalogue(Asked(name))
    raise BadParameter(
        "models are not loaded or unloaded by clients here: replace the model file, and the service"
        " takes the new one within seconds"
    )


for _model in MODELS:
    _rule = rule_of(_model)
    blueprint.add_url_rule(_rule, view_func=metadata)
    blueprint.add_url_rule(f"{_rule}/ready", view_func=ready)
    blueprint.add_url_rule(f"{_rule}/config", view_func=config)
    blueprint.add_url_rule(f"{_rule}/stats", view_func=stats)
