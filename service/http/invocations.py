"""What SageMaker asks of a container: POST /invocations, with whatever its client has sent."""

import msgspec
from msgspec import Raw

from service.http.endpoints import Endpoint
from service.http.predict import PredictFormat
from service.http.tensorflow_serving import TensorFlowServing
from service.serving.pipeline import PredictRequest, Task
from service.serving.uploads import check_length, is_json

INVOCATIONS = "/invocations"


class _Members(msgspec.Struct, frozen=True):
    """Those that tell TensorFlow Serving's JSON from the service's own."""

    instances: Raw = Raw()
    inputs: Raw = Raw()


_MEMBERS = msgspec.json.Decoder(_Members)


class Invocations:
    """One route for two wire formats: TensorFlow Serving's JSON, and all that ``/predict`` takes.

    Args:
        predict: the service's own format.
        tensorflow: TensorFlow Serving's.
    """

    def __init__(self, predict: PredictFormat, tensorflow: TensorFlowServing) -> None:
        self._predict = predict
        self._tensorflow = tensorflow

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The route."""
        return (Endpoint(INVOCATIONS, self._check_head, self._read),)

    def _check_head(self, content_type: str, length: int | None) -> int:
        limit = self._predict.check_single_head(content_type, None)
        if is_json(content_type):
            limit = max(limit, self._tensorflow.check_head(content_type, None))
        check_length(length, limit)
        return limit

    def _read(self, request: PredictRequest) -> Task:
        if is_json(request.headers.get("Content-Type", "")) and _is_tensorflow(request.body):
            return self._tensorflow.read_predict(request)
        return self._predict.read_single(request)


def _is_tensorflow(body: bytes) -> bool:
    """Whether JSON is TensorFlow Serving's; what cannot be read, the service's format refuses."""
    try:
        found = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return len(found.instances) > 0 or len(found.inputs) > 0
