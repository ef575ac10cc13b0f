"""Why an answer: POST /explain, and KServe's POST /v1/models/{name}:explain.

One image, in the formats of ``/predict`` and ``:predict``. The answer is a map of importance for
one label, as JSON or as a picture.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.http.endpoints import Endpoint
from service.http.predict import MODELS as OWN_MODELS
from service.http.predict import ModelName, PredictFormat
from service.http.tensorflow_serving import MODELS, TensorFlowServing
from service.inference.classifier import Classifier
from service.inference.explanation import METHOD, PASSES, Predict, importance
from service.inference.heat import overlay
from service.serving.admission import Admission
from service.serving.background import PAUSE
from service.serving.context import Headers, RequestContext
from service.serving.errors import BadParameter, Overloaded, TooSlow
from service.serving.json_bodies import decode_json
from service.serving.parameters import parse_text
from service.serving.pipeline import BackgroundTask, PredictRequest, Source
from service.serving.responses import Response, json_response
from service.serving.uploads import BASE64_SCHEMA, base64_image, is_json, single_image

EXPLAIN = "/explain"
_PNG = {"Content-Type": "image/png"}

# The image as it is, and under each mask.
_INFERENCES = 1 + PASSES
# Of a label that there is not: as much as a refusal quotes.
_QUOTED_CHARACTERS = 100
# Decimal places of a map's values, which are log-odds.
_PLACES = 6


class ImportanceMap(msgspec.Struct, frozen=True):
    """What each pixel of the model's input size adds to the log-odds of the label.

    ``values``: rows from top to bottom; above 0 where the pixel speaks for the label.
    """

    height: int
    width: int
    values: list[list[float]]


class Explanation(msgspec.Struct, frozen=True):
    """What the probability of a label depends on; ``passes``: the inferences that it took."""

    model: ModelName
    label: str
    probability: Annotated[float, Meta(ge=0, le=1)]
    method: str
    passes: int
    importance: ImportanceMap


class Explanations(msgspec.Struct, frozen=True):
    """The same for KServe: one for each instance, and there is one."""

    explanations: list[Explanation]


class ExplainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image in base64, or as a data URL, and which label is to be explained by which method."""

    image: Annotated[str, Meta(extra_json_schema=BASE64_SCHEMA)]
    label: str = ""
    method: str = ""


class _Found(NamedTuple):
    """An explanation, and what it explains: ``pixels`` uint8 [H, W, 3], ``values`` [H, W]."""

    classifier: Classifier
    label: int
    probability: float
    pixels: NDArray[np.uint8]
    values: NDArray[np.float32]

    def to_struct(self) -> Explanation:
        """As clients get it."""
        card, (height, width) = self.classifier.card, self.values.shape
        rows = (self.values.astype(float).round(_PLACES) + 0.0).tolist()  # -0.0 becomes 0.0
        return Explanation(
            ModelName.of(self.classifier),
            card.labels[self.label],
            self.probability,
            METHOD,
            _INFERENCES,
            ImportanceMap(height, width, rows),
        )


_REQUEST = msgspec.json.Decoder(ExplainRequest)


class ExplainFormat:
    """Reads requests for explanations, and writes their answers.

    Args:
        predict: the service's own format of images.
        tensorflow: KServe's.
        admission: knows how many explanations are in flight.
    """

    def __init__(
        self,
        predict: PredictFormat,
        tensorflow: TensorFlowServing,
        admission: Admission,
    ) -> None:
        self._predict = predict
        self._tensorflow = tensorflow
        self._admission = admission

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The routes."""
        check_head = self._tensorflow.check_head
        return (
            *(
                Endpoint(
                    model + EXPLAIN, self._predict.check_single_head, self._read, background=True
                )
                for model in OWN_MODELS
            ),
            *(
                Endpoint(f"{model}:explain", check_head, self._read_instance, background=True)
                for model in MODELS
            ),
        )

    def _read(self, request: PredictRequest) -> BackgroundTask:
        content_type = request.headers.get("Content-Type", "")
        label, method = parse_text(request.query, "label"), parse_text(request.query, "method")
        if is_json(content_type):
            asked = decode_json(_REQUEST, request.body, '{"image": "<base64>"}')
            image = base64_image(asked.image)
            label, method = asked.label or label, asked.method or method
        else:
            image = single_image(request.body, content_type)
        _check_method(method)
        classifier = request.served.classifier
        write = _as_picture if _wants_picture(request.headers) else _as_json
        return self._task(image, classifier, label, write, request.context)

    def _read_instance(self, request: PredictRequest) -> BackgroundTask:
        _check_method(parse_text(request.query, "method"))
        classifier = request.served.classifier
        image = self._tensorflow.read_instance(request.body, classifier)
        label = parse_text(request.query, "label")
        return self._task(image, classifier, label, _for_kserve, request.context)

    def _task(
        self,
        image: Source,
        classifier: Classifier,
        label: str,
        write: Callable[[_Found], Response],
        context: RequestContext,
    ) -> BackgroundTask:
        self._check_time(classifier, context)
        index = _index(label, classifier) if label else None

        def answer(pixels: NDArray[np.uint8], predict: Predict) -> Response:
            return write(_explained(classifier, index, pixels, predict))

        return BackgroundTask(image, classifier, answer)

    def _check_time(self, classifier: Classifier, context: RequestContext) -> None:
        """Refuse what would not be done in time, before anything is done for it.

        Those ahead are counted as long as they take while predictions are made.

        Raises:
            TooSlow: it takes too long with this model.
            Overloaded: it has to wait too long.
        """
        seconds, left = _INFERENCES * classifier.seconds_per_image, context.remaining
        ahead = self._admission.background - 1
        if seconds > left:
            allowed = context.deadline - context.started
            raise TooSlow(
                f"an explanation takes {seconds:.1f} s with this model ({_INFERENCES} inferences),"
                f" and {left:.1f} s are left of the {allowed:g} s that a request may take"
            )
        if seconds * (1 + ahead * (1 + PAUSE)) > left:
            raise Overloaded(f"too many explanations are asked for ({ahead} are ahead), try again")


def _explained(
    classifier: Classifier, label: int | None, pixels: NDArray[np.uint8], predict: Predict
) -> _Found:
    row = predict(pixels[None])[0]
    chosen = int(row.argmax()) if label is None else label
    values = importance(predict, pixels, chosen, activation=classifier.card.activation)
    return _Found(classifier, chosen, float(row[chosen]), pixels, values)


def _as_json(found: _Found) -> Response:
    return json_response(found.to_struct())


def _as_picture(found: _Found) -> Response:
    return Response(200, _PNG, overlay(found.pixels, found.values))


def _for_kserve(found: _Found) -> Response:
    return json_response(Explanations([found.to_struct()]))


def _wants_picture(headers: Headers) -> bool:
    """Whether the client likes a picture better than JSON, as of RFC 9110, 12.5.1."""
    accepted = parse_accept_header(headers.get("Accept", ""), MIMEAccept)
    return accepted.best_match(["application/json", "image/png"]) == "image/png"


def _check_method(method: str) -> None:
    if method not in ("", METHOD):
        quoted = method[:_QUOTED_CHARACTERS]
        raise BadParameter(f"there is no method {quoted!r}: the only one is {METHOD}")


def _index(label: str, classifier: Classifier) -> int:
    """Which of the model's labels it is.

    Raises:
        BadParameter: none; the message names near ones.
    """
    labels = classifier.card.labels
    if label in labels:
        return labels.index(label)
    quoted = label[:_QUOTED_CHARACTERS]
    plain = {one.casefold(): one for one in labels}
    near = [plain[one] for one in get_close_matches(quoted.casefold(), plain)]
    told = f"did you mean {' or '.join(map(repr, near))}?" if near else "GET /model has them all"
    raise BadParameter(f"the model has no label {quoted!r}: {told}")
