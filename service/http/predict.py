"""The service's own wire format: POST /predict and POST /predict/batch.

``/predict`` takes one image: raw bytes, a form with one file, or JSON that holds it in base64.
``/predict/batch`` takes a form of files, each with a result of its own.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.http.endpoints import Endpoint
from service.inference.classifier import Classifier, Prediction, Selection
from service.serving.errors import MissingImage, TooManyFiles, UnsupportedCoding
from service.serving.json_bodies import decode_json
from service.serving.parameters import TopK, parse_selection
from service.serving.pipeline import OF_ONE_IMAGE, Outcome, PredictRequest, Source, Task
from service.serving.problems import Problem, problem_of
from service.serving.responses import Response, json_response
from service.serving.uploads import (
    BASE64_SCHEMA,
    NO_FILE,
    Upload,
    base64_image,
    base64_length,
    check_length,
    check_media_type,
    is_json,
    single_image,
    uploads,
)
from service.settings import MULTIPART_OVERHEAD, Settings

PREDICT = "/predict"
PREDICT_BATCH = "/predict/batch"
# Before each of the service's own paths: nothing, or which model is meant.
MODEL = "/models/{name}"
MODELS = ("", MODEL)


class ModelName(msgspec.Struct, frozen=True):
    """Which model has answered."""

    name: str
    version: str

    @classmethod
    def of(cls, classifier: Classifier) -> "ModelName":
        """Name and version on a model's card."""
        return cls(classifier.card.name, classifier.card.version)


# Of a model without familiarity, an answer has neither.
Familiarity = Annotated[float, Meta(ge=0, le=1)] | UnsetType
Unfamiliar = bool | UnsetType


class Answer(msgspec.Struct, frozen=True):
    """The predictions for one image, most probable first; its familiarity if the model tells."""

    model: ModelName
    predictions: list[Prediction]
    familiarity: Familiarity = UNSET
    unfamiliar: Unfamiliar = UNSET


class FileResult(msgspec.Struct, frozen=True):
    """What became of one file of a form: predictions, or a problem."""

    filename: str
    predictions: list[Prediction] | UnsetType = UNSET
    familiarity: Familiarity = UNSET
    unfamiliar: Unfamiliar = UNSET
    problem: Problem | UnsetType = UNSET


class BatchAnswer(msgspec.Struct, frozen=True):
    """A result for each file, in order."""

    model: ModelName
    results: list[FileResult]


class JsonRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image in base64, or as a data URL, and which labels are wanted."""

    image: Annotated[str, Meta(extra_json_schema=BASE64_SCHEMA)]
    top_k: TopK | None = None
    min_probability: Annotated[float, Meta(ge=0, le=1)] | None = None


_JSON_REQUEST = msgspec.json.Decoder(JsonRequest)


class PredictFormat:
    """Reads requests for predictions, and writes their answers.

    Args:
        settings: the limits on bodies and files.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The routes."""
        return tuple(
            endpoint
            for model in MODELS
            for endpoint in (
                Endpoint(model + PREDICT, self.check_single_head, self.read_single),
                Endpoint(model + PREDICT_BATCH, self._check_form_head, self._read_form),
            )
        )

    def check_single_head(self, content_type: str, length: int | None) -> int:
        """The largest body of a request with one image.

        Raises:
            WrongMediaType, BodyTooLarge: it cannot be one.
        """
        limit = self._settings.max_image_bytes
        if is_json(content_type):
            limit = base64_length(limit) + MULTIPART_OVERHEAD
        elif check_media_type(content_type):
            limit += MULTIPART_OVERHEAD
        check_length(length, limit)
        return limit

    def read_single(self, request: PredictRequest) -> Task:
        """One image: raw, in a form, or in JSON.

        Raises:
            RequestError: it cannot be used.
        """
        selection = parse_selection(request.query)
        content_type = request.headers.get("Content-Type", "")
        if is_json(content_type):
            image, selection = _image_in_json(request.body, selection)
        else:
            image = single_image(request.body, content_type)
        classifier = request.served.classifier

        def encode(outcomes: Sequence[Outcome]) -> Response:
            ranked = predictions(classifier, outcomes[0], selection)
            answer = Answer(ModelName.of(classifier), ranked, *familiarity(classifier, outcomes[0]))
            return json_response(answer)

        return Task((image,), classifier, encode)

    def _check_form_head(self, content_type: str, length: int | None) -> int:
        check_media_type(content_type, multipart_only=True)
        check_length(length, self._settings.max_batch_bytes)
        return self._settings.max_batch_bytes

    def _read_form(self, request: PredictRequest) -> Task:
        selection, limit = parse_selection(request.query), self._settings.max_batch_files
        files = uploads(request.body, request.headers.get("Content-Type", ""), limit)
        if not files:
            raise MissingImage(NO_FILE)
        if len(files) > limit:
            raise TooManyFiles(f"the form holds {len(files)} files, {limit} are allowed")
        classifier = request.served.classifier

        def encode(outcomes: Sequence[Outcome]) -> Response:
            results = [
                _result(file, classifier, outcome, selection)
                for file, outcome in zip(files, outcomes, strict=True)
            ]
            answer = BatchAnswer(ModelName.of(classifier), results)
            return json_response(answer)

        return Task([_source(file) for file in files], classifier, encode)


def predictions(classifier: Classifier, outcome: Outcome, selection: Selection) -> list[Prediction]:
    """What is wanted of an outcome.

    Raises:
        Exception: what the outcome is, if it is one.
    """
    if isinstance(outcome, Exception):
        raise outcome
    return classifier.rank(outcome.row, selection)


def familiarity(classifier: Classifier, outcome: Outcome) -> tuple[Familiarity, Unfamiliar]:
    """How familiar an image looks to its model, and whether that is below the threshold."""
    if isinstance(outcome, Exception) or outcome.familiarity is None:
        return UNSET, UNSET
    return outcome.familiarity, classifier.is_unfamiliar(outcome.familiarity)


def _source(file: Upload) -> Source:
    try:
        return file.image()
    except UnsupportedCoding as error:
        return error


def _result(
    file: Upload, classifier: Classifier, outcome: Outcome, selection: Selection
) -> FileResult:
    if isinstance(outcome, OF_ONE_IMAGE):
        return FileResult(file.filename, problem=problem_of(outcome))
    ranked = predictions(classifier, outcome, selection)
    return FileResult(file.filename, ranked, *familiarity(classifier, outcome))


def _image_in_json(body: bytes, selection: Selection) -> tuple[bytes, Selection]:
    """The image, and the labels that are wanted: those of the query, unless the JSON says more."""
    found = decode_json(_JSON_REQUEST, body, '{"image": "<base64>"}')
    top_k, least = found.top_k, found.min_probability
    return base64_image(found.image), Selection(
        selection.top_k if top_k is None else int(top_k),
        selection.min_probability if least is None else least,
    )
