"""The application's factory: routes, and every error in the one shape."""

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_set_header

from service.http import health, images, model, model_status
from service.http.current import CONTEXT_KEY, current_context, current_service, install
from service.http.endpoints import Endpoint, Endpoints, PathPart
from service.http.explain import EXPLAIN, ExplainFormat
from service.http.flask_responses import flask_response
from service.http.hugging_face import HuggingFace
from service.http.invocations import Invocations
from service.http.open_inference import routes as open_inference
from service.http.open_inference.infer import OpenInference
from service.http.openapi import routes as openapi
from service.http.page import routes as page
from service.http.predict import PREDICT, PREDICT_BATCH, PredictFormat
from service.http.root_path import under_root
from service.http.tensorflow_serving import TensorFlowServing
from service.inference.classifier import Classifier
from service.runtime.shared_state import WorkerSlot
from service.serving import responses
from service.serving.context import RequestContext
from service.serving.service import Service
from service.settings import Settings


def create_app(
    settings: Settings | None = None,
    classifier: Classifier | None = None,
    slot: WorkerSlot | None = None,
) -> Flask:
    """The WSGI application: ``gunicorn "service.http.app:create_app()"``.

    The model is opened here: after the fork, in each worker.

    Args:
        settings: by default, from the environment.
        classifier: by default, the settings' model.
        slot: the worker's slot, by default the one that gunicorn's hooks gave.

    Raises:
        SettingsError: a setting cannot be understood or used.
        ModelError: the model cannot be used.
    """
    service = Service.build(settings, classifier, slot, (PREDICT, PREDICT_BATCH, EXPLAIN))
    endpoints = Endpoints(service, _endpoints(service))
    app = Flask("labelserve", static_folder=None)
    app.url_map.converters["default"] = PathPart
    app.url_map.merge_slashes = False  # a path with empty parts is no route, and no redirect
    install(app, service, endpoints)
    images.add_routes(app, endpoints)
    app.register_blueprint(model.blueprint)
    app.register_blueprint(openapi.blueprint)
    app.register_blueprint(model_status.blueprint)
    app.register_blueprint(open_inference.blueprint)
    page.register(app, service.settings)
    health.register(app, service.settings)  # last
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _refuse)
    if service.settings.root_path:
        app.wsgi_app = under_root(app.wsgi_app, service.settings.root_path)  # type: ignore[assignment,method-assign]
    service.slot.set_ready(ready=True)
    return app


def _endpoints(service: Service) -> tuple[Endpoint, ...]:
    """The routes of all wire formats that take images."""
    settings = service.settings
    predict = PredictFormat(settings)
    tensorflow = TensorFlowServing(settings)
    return (
        *tensorflow.platform_endpoints,  # first: a platform may want its JSON at /predict
        *predict.endpoints,
        *tensorflow.endpoints,
        *OpenInference(settings).endpoints,
        *Invocations(predict, tensorflow).endpoints,
        *HuggingFace(predict).endpoints,
        *ExplainFormat(predict, tensorflow, service.admission).endpoints,
    )


def _begin() -> None:
    service = current_service()
    g.context = request.environ.get(CONTEXT_KEY) or RequestContext.begin(
        request.method, request.headers, service.settings, request.path, service.traces
    )
    rule = request.url_rule
    if request.method == "OPTIONS" and rule is not None:
        return  # a browser asks without the key whether it may send one
    if rule is not None:
        g.context.route = rule.rule.replace("<", "{").replace(">", "}")
    service.auth.check(request.path, request.headers)


def _finish(response: Response) -> Response:
    service, context = current_service(), current_context()
    common = responses.common_headers(context)
    response.vary.update(parse_set_header(common.pop("Vary", "")))  # a route's own stands beside it
    for name, value in common.items():
        response.headers.setdefault(name, value)  # a page says itself what it may load
    service.accounting.add(context, response.status_code)
    service.accounting.flush()
    if context.afterwards is not None:
        response.call_on_close(context.afterwards)
    return response


def _refuse(error: Exception) -> Response:
    return flask_response(responses.error_response(error, current_context()))


def _refuse_http(error: HTTPException) -> Response:
    """404, 405 and their like, with the headers that werkzeug gives them (Allow)."""
    response = flask_response(
        responses.status_response(error.code or 500, error.description or "", current_context())
    )
    for name, value in error.get_headers():
        response.headers.setdefault(name, value)
    return response
