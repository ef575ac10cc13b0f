"""POST …/infer: predictions for the images of a request."""

from collections.abc import Sequence

from service.http.endpoints import Endpoint
from service.http.open_inference.answers import write_answer
from service.http.open_inference.inputs import JSON_LENGTH
from service.http.open_inference.requests import read_request
from service.serving.errors import WrongMediaType
from service.serving.pipeline import Outcome, PredictRequest, Task, rows_of
from service.serving.responses import Response
from service.serving.uploads import MULTIPART, check_length, media_type
from service.settings import MULTIPART_OVERHEAD, Settings

MODEL = "/v2/models/{name}"
MODELS = (MODEL, f"{MODEL}/versions/{{version}}")


class OpenInference:
    """Reads requests for predictions, and writes their answers.

    Args:
        settings: the limits on bodies and images.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_batch_bytes + MULTIPART_OVERHEAD
        self._max_images = settings.max_batch_files

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The routes."""
        return tuple(Endpoint(f"{model}/infer", self._check_head, self._read) for model in MODELS)

    def _check_head(self, content_type: str, length: int | None) -> int:
        """Clients declare JSON, bytes or nothing; only a form is certainly something else."""
        if media_type(content_type) == MULTIPART:
            raise WrongMediaType(
                f"a form is not read here, but by /predict/batch: send JSON, or one image file's"
                f" own bytes with the header {JSON_LENGTH}: 0"
            )
        check_length(length, self._max_bytes)
        return self._max_bytes

    def _read(self, request: PredictRequest) -> Task:
        served = request.served
        classifier = served.classifier
        json_length = request.headers.get(JSON_LENGTH, "")
        images, wanted = read_request(
            request.body, json_length, classifier.input_size, self._max_images
        )

        def encode(outcomes: Sequence[Outcome]) -> Response:
            return write_answer(served, rows_of(outcomes), wanted)

        return Task(images, classifier, encode)
