"""TensorFlow Serving's REST API, which is KServe's version 1: predictions under /v1/models.

Images come as rows (``instances``), as columns (``inputs``) or as ``examples``, each in base64 or
as numbers. Errors are ``{"error": …}``, and an image that cannot be used fails its whole request.
"""

import re
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec
from msgspec import Raw

from service.http.endpoints import Endpoint
from service.http.tensors import json_batch, json_tensor
from service.inference.classifier import Classifier
from service.inference.contract import INPUT_NAME
from service.serving.errors import (
    BadBody,
    BadParameter,
    MissingImage,
    RequestError,
    TooManyFiles,
)
from service.serving.json_bodies import decode_json
from service.serving.pipeline import Outcome, PredictRequest, Rows, Source, Task, rows_of
from service.serving.responses import Response, json_response
from service.serving.uploads import base64_image, check_length
from service.settings import Settings

MODEL = "/v1/models/{name}"
MODELS = (MODEL, f"{MODEL}/versions/{{version}}", f"{MODEL}/labels/{{label}}")

# What an answer holds for each image: the probabilities of all labels, or the best label.
SIGNATURE = "serving_default"
LABELS_SIGNATURE = "labels"

_IMAGE = f'{{"b64": "<base64>"}}, {{"{INPUT_NAME}": {{"b64": "<base64>"}}}}, or arrays of numbers'
_ROWS = '{"instances": [{"b64": "<base64>"}]}'
_EXAMPLES = '{"examples": [{"image": {"b64": "<base64>"}}]}'

# Braces of a request: two of each image, and as many beside them. Each may cost memory.
_BRACES_OF_IMAGE = 2
_OTHER_BRACES = 64
_FIRST_IN_LIST = re.compile(rb"\[\s*(.)")


class Rowed(msgspec.Struct, frozen=True):
    """An answer to ``instances``: for each image its probabilities, or its best label."""

    predictions: Sequence[Sequence[float] | str]


class Columned(msgspec.Struct, frozen=True):
    """An answer to ``inputs``: for each image its probabilities, or its best label."""

    outputs: Sequence[Sequence[float] | str]


class Ranked(msgspec.Struct, frozen=True, array_like=True):
    """A label and its probability: an array of two."""

    label: str
    probability: float


class Classified(msgspec.Struct, frozen=True):
    """An answer to ``examples``: for each image the labels, most probable first."""

    results: list[list[Ranked]]


class _Predict(msgspec.Struct, frozen=True):
    """A request of ``:predict``. Other members say nothing of the images."""

    instances: Raw = Raw()
    inputs: Raw = Raw()
    signature_name: str = SIGNATURE


class _Explain(msgspec.Struct, frozen=True):
    """A request of ``:explain``. Other members say nothing of the image."""

    instances: Raw


class _Classify(msgspec.Struct, frozen=True):
    """A request of ``:classify``. Other members say nothing of the images."""

    examples: Raw
    signature_name: str = SIGNATURE


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image in base64, or the model's one input by its name and what it holds."""

    b64: str | None = None
    image: Raw = Raw()


class _Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    b64: str


_PREDICT = msgspec.json.Decoder(_Predict)
_EXPLAIN = msgspec.json.Decoder(_Explain)
_CLASSIFY = msgspec.json.Decoder(_Classify)
_ONE = msgspec.json.Decoder(_Image)
_SEVERAL = msgspec.json.Decoder(list[_Image])
_BASE64 = msgspec.json.Decoder(_Base64)


class TensorFlowServing:
    """Reads requests for predictions, and writes their answers.

    Args:
        settings: the limits on bodies and images.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_batch_bytes
        self._max_images = settings.max_batch_files
        self._platform_route = settings.platform_predict_route

    @property
    def platform_endpoints(self) -> tuple[Endpoint, ...]:
        """The route that Vertex AI has chosen for ``:predict``, if it has."""
        route = self._platform_route
        return (Endpoint(route, self.check_head, self.read_predict),) if route else ()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The routes."""
        return tuple(
            endpoint
            for model in MODELS
            for endpoint in (
                Endpoint(f"{model}:predict", self.check_head, self.read_predict),
                Endpoint(f"{model}:classify", self.check_head, self._read_classify),
                Endpoint(f"{model}:regress", _no_regression, self.read_predict),
            )
        )

    def check_head(self, _content_type: str, length: int | None) -> int:
        """The largest body. Whatever type it is declared as, it has to be JSON: so does curl.

        Raises:
            BodyTooLarge: more is coming.
        """
        check_length(length, self._max_bytes)
        return self._max_bytes

    def read_predict(self, request: PredictRequest) -> Task:
        """Images as rows or columns.

        Raises:
            RequestError: they cannot be used.
        """
        self._check_braces(request.body)
        found = decode_json(_PREDICT, request.body, _ROWS)
        rowed, columned = len(found.instances) > 0, len(found.inputs) > 0
        if rowed == columned:
            wrong = "both instances and inputs" if rowed else "neither instances nor inputs"
            raise BadBody(f"the JSON has {wrong}: send {_ROWS}")
        written = _written(found.signature_name)
        classifier = request.served.classifier
        images = self._images(found.instances if rowed else found.inputs, classifier)

        def encode(outcomes: Sequence[Outcome]) -> Response:
            values = written(classifier, rows_of(outcomes))
            answer = Rowed(values) if rowed else Columned(values)
            return json_response(answer)

        return Task(images, classifier, encode)

    def read_instance(self, body: bytes, classifier: Classifier) -> Source:
        """The one image of a request that has one instance.

        Raises:
            RequestError: it cannot be used, or there is not exactly one.
        """
        self._check_braces(body)
        images = self._images(decode_json(_EXPLAIN, body, _ROWS).instances, classifier)
        if len(images) != 1:
            raise MissingImage(f"the request holds {len(images)} images, send exactly one")
        return images[0]

    def _read_classify(self, request: PredictRequest) -> Task:
        self._check_braces(request.body)
        found = decode_json(_CLASSIFY, request.body, _EXAMPLES)
        if found.signature_name != SIGNATURE:
            raise BadParameter(f"the only signature_name of :classify is {SIGNATURE}")
        classifier = request.served.classifier

        def encode(outcomes: Sequence[Outcome]) -> Response:
            ranked = [classifier.rank(row) for row in rows_of(outcomes)]
            results = [[Ranked(one.label, one.probability) for one in image] for image in ranked]
            return json_response(Classified(results))

        return Task(self._images(found.examples, classifier), classifier, encode)

    def _check_braces(self, body: bytes) -> None:
        """Refuse millions of tiny objects before one of them takes memory."""
        if body.count(b"{") > _BRACES_OF_IMAGE * self._max_images + _OTHER_BRACES:
            raise self._too_many()

    def _too_many(self) -> TooManyFiles:
        return TooManyFiles(f"the request holds more than {self._max_images} images")

    def _images(self, tensor: Raw, classifier: Classifier) -> Sequence[Source]:
        """The images of a list, of the model's one input by its name, or of one object."""
        if not _begins(tensor, b"{"):
            return self._images_in_list(tensor, classifier)
        one = decode_json(_ONE, tensor, _IMAGE)
        if one.b64 is None and _begins(one.image, b"["):
            return self._images_in_list(one.image, classifier)
        return [_image(one, classifier)]

    def _images_in_list(self, tensor: Raw, classifier: Classifier) -> Sequence[Source]:
        first = _FIRST_IN_LIST.match(memoryview(tensor))
        if first is None or first[1] == b'"':
            raise BadBody(f"an image is {_IMAGE}")
        if first[1] == b"]":
            return []
        if first[1] != b"{":
            return list(json_batch(tensor, _shape(classifier), self._max_images))
        images = decode_json(_SEVERAL, tensor, _IMAGE)
        if len(images) > self._max_images:
            raise self._too_many()
        return [_image_at(place, images, classifier) for place in range(len(images))]


def _image_at(place: int, images: Sequence[_Image], classifier: Classifier) -> Source:
    try:
        return _image(images[place], classifier)
    except RequestError as error:
        raise type(error)(f"image {place + 1} of {len(images)}: {error}") from error


def _begins(value: Raw, text: bytes) -> bool:
    return bytes(memoryview(value)[: len(text)]) == text


def _shape(classifier: Classifier) -> tuple[int, int, int]:
    return *classifier.input_size, 3


def _image(one: _Image, classifier: Classifier) -> Source:
    if (one.b64 is None) != (len(one.image) > 0):
        raise BadBody(f"an image is {_IMAGE}")
    if one.b64 is not None:
        return base64_image(one.b64)
    if _begins(one.image, b"["):
        return json_tensor(one.image, _shape(classifier))
    return base64_image(decode_json(_BASE64, one.image, _IMAGE).b64)


def _no_regression(_content_type: str, _length: int | None) -> NoReturn:
    raise BadParameter("the model tells labels apart and has no regression: ask for :predict")


def _written(signature: str) -> Callable[[Classifier, Rows], list[list[float]] | list[str]]:
    """How a signature writes the rows of an answer.

    Raises:
        BadParameter: there is no such signature.
    """
    if signature in ("", SIGNATURE):
        return lambda _classifier, rows: [row.tolist() for row in rows]
    if signature == LABELS_SIGNATURE:
        return lambda classifier, rows: [classifier.card.labels[row.argmax()] for row in rows]
    raise BadParameter(
        f"there is no such signature_name: {SIGNATURE} answers probabilities,"
        f" {LABELS_SIGNATURE} each image's best label"
    )
