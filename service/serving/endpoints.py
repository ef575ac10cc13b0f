"""The routes that take images, and whether a request may send its body to one of them."""

from collections.abc import Callable
from dataclasses import dataclass

from service.runtime.shared_state import SharedState
from service.serving.admission import Admission
from service.serving.auth import Auth
from service.serving.batcher import Batcher
from service.serving.context import AllHeaders
from service.serving.errors import NotReady
from service.serving.pipeline import PredictRequest
from service.serving.uploads import check_codings, check_length, check_media_type
from service.settings import MULTIPART_OVERHEAD, Settings

PREDICT = "/predict"
PREDICT_BATCH = "/predict/batch"


@dataclass(frozen=True)
class Endpoint:
    """A route that takes images, for any thread that may wait for its answer.

    ``check_head`` takes the declared media type and length and gives the largest body to read.
    """

    check_head: Callable[[str | None, int | None], int]
    answer: Callable[[PredictRequest], bytes]


class Endpoints:
    """All of them, by path."""

    def __init__(
        self,
        settings: Settings,
        batcher: Batcher,
        auth: Auth,
        admission: Admission,
        state: SharedState,
    ) -> None:
        self._settings = settings
        self._auth = auth
        self._admission = admission
        self._state = state
        self.by_path = {
            PREDICT: Endpoint(self._check_single_head, batcher.answer),
            PREDICT_BATCH: Endpoint(self._check_form_head, batcher.answer_many),
        }

    def check_head(self, path: str, headers: AllHeaders, length: int | None) -> int:
        """Before a body is read: the number of its bytes to read at most.

        Raises:
            RequestError: Unauthorized, NotReady while stopping, UnsupportedCoding, WrongMediaType,
                BodyTooLarge, or Overloaded.
        """
        self._auth.check(path, headers)
        if self._state.draining and not self._settings.drain_seconds:
            raise NotReady("the service is stopping")
        check_codings(headers.getlist("Content-Encoding"))
        limit = self.by_path[path].check_head(headers.get("Content-Type", ""), length)
        self._admission.check()
        return limit

    def _check_single_head(self, content_type: str | None, length: int | None) -> int:
        overhead = MULTIPART_OVERHEAD if check_media_type(content_type) else 0
        limit = self._settings.max_image_bytes + overhead
        check_length(length, limit)
        return limit

    def _check_form_head(self, content_type: str | None, length: int | None) -> int:
        check_media_type(content_type, multipart_only=True)
        check_length(length, self._settings.max_batch_bytes)
        return self._settings.max_batch_bytes
