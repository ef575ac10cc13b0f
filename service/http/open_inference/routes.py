"""What the protocol's clients ask beside predictions; health is with what monitoring asks."""

from flask import Blueprint, Response

from service.http.current import current_endpoints, current_service
from service.http.endpoints import rule_of
from service.http.flask_responses import json_answer
from service.http.health import check_ready
from service.http.open_inference.descriptions import (
    IndexedModel,
    ModelReady,
    ServerMetadata,
    model_config,
    model_metadata,
)
from service.http.open_inference.infer import MODELS
from service.http.open_inference.statistics import statistics
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
    return json_answer(model_metadata(current_service().models.find(Asked.of(arguments))))


def ready(**arguments: str) -> Response:
    """A model is ready; 503 while it is not."""
    served = current_service().models.find(Asked.of(arguments))
    check_ready()
    return json_answer(ModelReady(served.name))


def config(**arguments: str) -> Response:
    """A model as Triton configures it."""
    current = current_service()
    served = current.models.find(Asked.of(arguments))
    return json_answer(model_config(served, current.settings.max_batch_files))


@blueprint.get("/v2/models/stats")
def stats(**arguments: str) -> Response:
    """What a model has answered."""
    current = current_service()
    served = current.models.find(Asked.of(arguments))
    current.accounting.flush()
    routes = [endpoint.route for endpoint in current_endpoints().each]
    return json_answer(statistics(served.name, served.number, current.metrics.totals(routes)))


@blueprint.post(f"{_REPOSITORY}/index")
def index() -> Response:
    """The models: there is one."""
    return json_answer([IndexedModel(current_service().models.name)])


@blueprint.post(f"{_REPOSITORY}/models/<name>/load")
@blueprint.post(f"{_REPOSITORY}/models/<name>/unload")
def change(name: str) -> Response:
    """Clients change nothing.

    Raises:
        BadParameter: always, or
        UnknownModel: there is no such model.
    """
    current_service().models.find(Asked(name))
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
