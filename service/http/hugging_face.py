"""What clients of Hugging Face's inference endpoints send and read: POST /huggingface.

``huggingface_hub.InferenceClient(model="http://…/huggingface").image_classification("cat.jpg")``
sends the image's bytes, or JSON where it has parameters.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.http.endpoints import Endpoint
from service.http.predict import PredictFormat, predictions
from service.inference.classifier import Classifier, Selection
from service.serving.errors import BadParameter
from service.serving.json_bodies import decode_json
from service.serving.parameters import TopK
from service.serving.pipeline import Outcome, PredictRequest, Task
from service.serving.responses import Response, json_response
from service.serving.uploads import BASE64_SCHEMA, base64_image, is_json, single_image

HUGGING_FACE = "/huggingface"

_WANTED = '{"inputs": "<base64>", "parameters": {"top_k": 5}}'
# As many labels as Hugging Face's own pipeline answers by default.
_TOP_K = 5


class Scored(msgspec.Struct, frozen=True):
    """A label and its probability."""

    label: str
    score: float


class Parameters(msgspec.Struct, frozen=True):
    """How many labels are wanted; the function is the model's own, if any is named."""

    top_k: TopK | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class HuggingFaceRequest(msgspec.Struct, frozen=True):
    """An image in base64. Other members are ignored."""

    inputs: Annotated[str, Meta(extra_json_schema=BASE64_SCHEMA)]
    parameters: Parameters | None = None


_REQUEST = msgspec.json.Decoder(HuggingFaceRequest)


class HuggingFace:
    """Reads requests for predictions, and writes their answers.

    Args:
        predict: the service's own format, whose limits hold here.
    """

    def __init__(self, predict: PredictFormat) -> None:
        self._predict = predict

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The route."""
        return (Endpoint(HUGGING_FACE, self._predict.check_single_head, self._read),)

    def _read(self, request: PredictRequest) -> Task:
        content_type, asked = request.headers.get("Content-Type", ""), Parameters()
        classifier = request.served.classifier
        if is_json(content_type):
            found = decode_json(_REQUEST, request.body, _WANTED)
            asked = found.parameters or asked
            _check_function(classifier, asked)
            image = base64_image(found.inputs)
        else:
            image = single_image(request.body, content_type)
        selection = Selection(int(asked.top_k or _TOP_K))

        def encode(outcomes: Sequence[Outcome]) -> Response:
            ranked = predictions(classifier, outcomes[0], selection)
            scored = [Scored(one.label, one.probability) for one in ranked]
            return json_response(scored)

        return Task((image,), classifier, encode)


def _check_function(classifier: Classifier, asked: Parameters) -> None:
    activation = classifier.card.activation
    if asked.function_to_apply not in (None, activation):
        raise BadParameter(
            f"function_to_apply is {activation} with this model, and no other: leave it out"
        )
