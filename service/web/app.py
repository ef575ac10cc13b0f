"""The application's factory: routes, and every error in the one shape."""

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from service.inference.classifier import Classifier
from service.settings import Settings
from service.web import health, predict
from service.web.problems import problem_of_status
from service.web.scoreboard import Seat
from service.web.service import Answer, Service, install, this_exchange, this_service

# Where a transport leaves the record of a request that it has begun itself.
EXCHANGE_KEY = "labelserve.exchange"


def create_app(
    settings: Settings | None = None,
    classifier: Classifier | None = None,
    seat: Seat | None = None,
) -> Flask:
    """The WSGI application: ``gunicorn "service.web.app:create_app()"``.

    Args:
        settings: by default, from the environment.
        classifier: by default, the settings' model, opened here: after the fork, in each worker.
        seat: the worker's place on the scoreboard, by default the one that gunicorn's hooks gave.

    Raises:
        SettingsError: a variable cannot be understood.
        ModelError: the model cannot be used.
    """
    service = Service.start(settings, classifier, seat)
    app = Flask("labelserve", static_folder=None)
    app.url_map.merge_slashes = False  # a path with empty parts is no route, and no redirect
    install(app, service)
    app.register_blueprint(predict.blueprint)
    app.register_blueprint(health.blueprint)
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _refuse)
    service.seat.set_ready(ready=True)
    return app


def _begin() -> None:
    begun = request.environ.get(EXCHANGE_KEY)
    g.exchange = begun or this_service().begin(request.method, request.headers)
    if request.url_rule is not None:
        g.exchange.route = request.url_rule.rule
    this_service().access.check(request.path, request.headers)


def _finish(response: Response) -> Response:
    response.headers.update(this_service().finish(this_exchange(), response.status_code))
    return response


def _refuse(error: Exception) -> Response:
    return _response(this_service().refuse(error, this_exchange()))


def _refuse_http(error: HTTPException) -> Response:
    """404, 405 and their like, with the headers that werkzeug gives them (Allow)."""
    exchange = this_exchange()
    problem = problem_of_status(error.code or 500, error.description or "", exchange.request_id)
    response = _response(this_service().problem(problem, exchange))
    for name, value in error.get_headers():
        response.headers.setdefault(name, value)
    return response


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers)
