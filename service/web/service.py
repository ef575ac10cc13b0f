"""The parts of one running service, and what happens around every request, whoever carries it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from flask import Flask, current_app, g

from service.inference.classifier import Classifier, FileState, file_state, read_model
from service.inference.errors import ImageError, ModelError
from service.logs import log_exchange, together
from service.memory import fitted_settings, require_room
from service.settings import Settings
from service.web.access import Access
from service.web.admission import Admission
from service.web.errors import NotReady, RequestError
from service.web.exchange import Exchange, Headers
from service.web.metrics import Metrics
from service.web.prediction import Predictor
from service.web.problems import Problem, problem_headers, problem_of, problem_of_status
from service.web.scoreboard import Seat, current_seat

_LOG = logging.getLogger("labelserve")
_KEY = "labelserve"

# What scanners expect of an API: nothing here is a page, a script or to be kept.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

CheckHead = Callable[[str | None, int | None], int]
Predict = Callable[[bytes, str | None, str | None, Exchange], bytes]


class Answer(NamedTuple):
    """What goes back: a status, headers of its own and a body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class PredictionRoute:
    """A route that takes images: how its headers are checked, and what answers it."""

    check_head: CheckHead
    predict: Predict


@dataclass(frozen=True)
class Service:
    """Settings, model, bounds and figures of one worker.

    ``model_state``: that of the model's file when the service started.
    """

    settings: Settings
    predictor: Predictor
    admission: Admission
    access: Access
    metrics: Metrics
    seat: Seat
    model_state: FileState | None
    unsettled: deque[tuple[Exchange, int]] = field(init=False, default_factory=deque)
    _noting: threading.Lock = field(init=False, default_factory=threading.Lock)
    _settling: threading.Lock = field(init=False, default_factory=threading.Lock)
    routes: dict[str, PredictionRoute] = field(init=False)

    def __post_init__(self) -> None:
        predictor = self.predictor
        routes = {
            "/predict": PredictionRoute(predictor.check_head, predictor.predict),
            "/predict/batch": PredictionRoute(predictor.check_batch_head, predictor.predict_batch),
        }
        object.__setattr__(self, "routes", routes)

    @classmethod
    def start(
        cls,
        settings: Settings | None = None,
        classifier: Classifier | None = None,
        seat: Seat | None = None,
    ) -> "Service":
        """Load what is not given: settings from the environment, and their model.

        Raises:
            SettingsError: a variable cannot be understood.
            ModelError: the model cannot be used.
        """
        seat = seat or current_seat()
        settings = settings or seat.board.settings or fitted_settings()[0]
        state = file_state(settings.model)  # before it is read: what is changed later is noticed
        metrics = Metrics(seat.board)
        if classifier is None:
            classifier = _first_classifier(settings, seat, metrics)
            if seat.slot == 0:  # the others say the same
                _LOG.info("inference by %s", ", ".join(classifier.providers))
        metrics.use_model(classifier.card)
        return cls(
            settings=settings,
            predictor=Predictor(classifier, settings),
            admission=Admission(
                settings.inside_per_worker,
                metrics.in_flight,
                by_wait=settings.admits_by_wait,
            ),
            access=Access(settings, seat.board.last_keys),
            metrics=metrics,
            seat=seat,
            model_state=state,
        )

    def use(self, classifier: Classifier) -> None:
        """Answer with another model from the next request on."""
        self.predictor.classifier = classifier
        self.metrics.use_model(classifier.card)

    def begin(self, method: str, headers: Headers) -> Exchange:
        """The record of a request whose head has just been read."""
        return Exchange.begin(method, headers, self.settings.request_timeout)

    def check_head(self, route: str, headers: Headers, length: int | None) -> int:
        """Before a body is read: may it come? The number of its bytes to read at most.

        Raises:
            RequestError: Unauthorized, NotReady while stopping, or what the route says.
        """
        self.access.check(route, headers)
        if self.seat.board.draining and not self.settings.drain_seconds:
            raise NotReady("the service is stopping")
        return self.routes[route].check_head(headers.get("Content-Type", ""), length)

    def refuse(self, error: Exception, exchange: Exchange) -> Answer:
        """The answer to a request that cannot be met; what is not foreseen is our own fault."""
        if isinstance(error, RequestError | ImageError):
            return self.problem(problem_of(error, exchange.request_id), exchange)
        # The log has all of it, the answer nothing but the id to find it by.
        fields = {"request_id": exchange.request_id}
        _LOG.error("unexpected error", exc_info=error, extra={"fields": fields})
        detail = "an unexpected error; the log knows it by this request's id"
        return self.problem(problem_of_status(500, detail, exchange.request_id), exchange)

    def refusal(self, error: Exception, exchange: Exchange) -> Answer:
        """The same with all headers, for who answers without the framework, and settles."""
        answer = self.refuse(error, exchange)
        answer.headers.update(self.finish_later(exchange, answer.status))
        return answer

    def malformed(self, status: int, error: Exception, exchange: Exchange) -> Answer:
        """The same for what is not HTTP, which has a status of the parser's."""
        problem = problem_of_status(status, str(error), exchange.request_id)
        answer = self.problem(problem, exchange)
        answer.headers.update(self.finish_later(exchange, status))
        return answer

    def problem(self, problem: Problem, exchange: Exchange) -> Answer:
        """A problem as an answer."""
        if exchange.ended is None:  # else it is counted as what its client was told
            exchange.problem = problem.reason
        return Answer(problem.status, problem_headers(problem.status), problem.to_json())

    def finish(self, exchange: Exchange, status: int) -> dict[str, str]:
        """Count and log an answered request, once; the headers that every answer carries."""
        headers = self.finish_later(exchange, status)
        self.settle()
        return headers

    def finish_later(self, exchange: Exchange, status: int) -> dict[str, str]:
        """The same, counted and logged by the next ``settle``."""
        if exchange.ended is None:
            exchange.ended = time.monotonic()
            with self._noting:
                self.unsettled.append((exchange, status))
                self.seat.board.add_answered(self.seat.slot)
        return {"X-Request-ID": exchange.request_id, **SECURITY_HEADERS}

    def settle(self) -> None:
        """Count and log what was put off, and show how many are inside; any thread may.

        After an inference, the first count and the first line take four times as long as the next,
        because the network has taken the caches. Several at once share that.
        """
        with self._settling:  # who finds nothing left to do may rely on its being done
            self.admission.show()
            answers = [self.unsettled.popleft() for _ in range(len(self.unsettled))]
            try:
                self._settle(answers)
            except Exception:  # noqa: BLE001  no reason to leave a client without its answer
                _LOG.exception("answers could not be counted")
            self.seat.board.add_counted(self.seat.slot, len(answers))

    def _settle(self, answers: list[tuple[Exchange, int]]) -> None:
        alike: dict[tuple[str, int], list[Exchange]] = {}
        with together():
            for exchange, status in answers:
                alike.setdefault((exchange.route, status), []).append(exchange)
                log_exchange(exchange, status)
        for (route, status), exchanges in alike.items():
            self.metrics.observe(exchanges, route, status)


def open_model(settings: Settings, seat: Seat) -> Classifier:
    """Open the settings' model file, and keep it as the last good one.

    Raises:
        ModelError: it cannot be used.
    """
    require_room(settings)
    data = read_model(settings.model)
    classifier = _opened(data, settings)
    seat.board.last_good.store(data)
    return classifier


def _first_classifier(settings: Settings, seat: Seat, metrics: Metrics) -> Classifier:
    """The model to start with: the file's, or what the other workers answer with."""
    try:
        return open_model(settings, seat)
    except ModelError as error:
        kept = seat.board.last_good.load()
        if kept is None:
            raise
        metrics.model_loads.labels("refused").inc()
        _LOG.error("model refused, the last good one goes on: %s", error)
        return _opened(kept, settings)


def _opened(data: bytes, settings: Settings) -> Classifier:
    return Classifier.open(
        data,
        settings.model,
        threads=settings.inference_threads_per_worker,
        providers=settings.providers,
    )


def install(app: Flask, service: Service) -> None:
    """Give an application its service."""
    app.extensions[_KEY] = service


def service_of(app: Flask) -> Service:
    """The service of an application."""
    found: Service = app.extensions[_KEY]
    return found


def this_service() -> Service:
    """The service of the application that is answering."""
    found: Service = current_app.extensions[_KEY]
    return found


def this_exchange() -> Exchange:
    """The record of the request that is being answered."""
    found: Exchange = g.exchange
    return found
