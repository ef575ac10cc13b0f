"""Exception to status, and the one JSON shape of every error (RFC 9457)."""

import re
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from service.inference import errors as inference
from service.serving import errors as serving

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
_ERROR_MEMBER_PATHS = re.compile(r"/(v[12]|huggingface)(/|$)")


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457's members, and the id under which the log knows the request."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None

    @property
    def reason(self) -> str:
        """A short name for metrics and logs."""
        kind = self.type.rpartition(":")[2]
        return kind if kind != "blank" else f"status-{self.status}"


class ErrorMessage(msgspec.Struct, frozen=True):
    """All that clients of TensorFlow Serving and the Open Inference Protocol read of an error."""

    error: str


@dataclass(frozen=True)
class Kind:
    """What all problems of one kind share."""

    status: int
    slug: str
    title: str


KINDS: dict[type[Exception], Kind] = {
    inference.EmptyImage: Kind(400, "empty-image", "The image is empty"),
    inference.UnsupportedFormat: Kind(415, "unsupported-format", "Not an image format read here"),
    inference.BrokenImage: Kind(422, "broken-image", "The image cannot be decoded"),
    inference.TooManyPixels: Kind(422, "too-many-pixels", "The image has too many pixels"),
    inference.InvalidAnswer: Kind(500, "invalid-answer", "The model's answer is not usable"),
    serving.Unauthorized: Kind(401, "unauthorized", "A valid API key is needed"),
    serving.BadParameter: Kind(400, "bad-parameter", "A parameter is not valid"),
    serving.BadBody: Kind(400, "bad-body", "The request body cannot be read"),
    serving.MissingImage: Kind(400, "missing-image", "One image is expected"),
    serving.UnknownModel: Kind(404, "unknown-model", "No such model is served"),
    serving.BadTensor: Kind(400, "bad-tensor", "The tensor does not fit the model"),
    serving.WrongMediaType: Kind(415, "wrong-media-type", "The media type is no image"),
    serving.UnsupportedCoding: Kind(
        415, "unsupported-coding", "The bytes are compressed or encoded"
    ),
    serving.BodyTooLarge: Kind(413, "body-too-large", "The request has too many bytes"),
    serving.TooManyFiles: Kind(413, "too-many-files", "The request has too many images"),
    serving.BodyTimeout: Kind(408, "body-timeout", "The request body came too slowly"),
    serving.Overloaded: Kind(429, "overloaded", "The service is busy"),
    serving.NotReady: Kind(503, "not-ready", "The service is not ready"),
    serving.TooSlow: Kind(501, "too-slow", "The model is too slow for this"),
    serving.DeadlineExceeded: Kind(504, "deadline-exceeded", "The request took too long"),
    serving.ClientDisconnected: Kind(
        499, "client-disconnected", "The client closed its connection"
    ),
}


def problem_of(error: Exception, request_id: str | None = None) -> Problem:
    """The problem that a domain error is; KeyError for any other exception."""
    kind = KINDS[type(error)]
    return Problem(
        type=f"urn:labelserve:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=str(error),
        request_id=request_id,
    )


def problem_of_status(status: int, detail: str, request_id: str | None = None) -> Problem:
    """The problem of a plain HTTP status, where there is no domain error."""
    return Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
    )


def problem_headers(problem: Problem) -> dict[str, str]:
    """What the answer of a problem carries besides its body and media type."""
    status, headers = problem.status, dict[str, str]()
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.reason == KINDS[serving.UnsupportedCoding].slug:
        headers["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return headers


def has_error_member(path: str) -> bool:
    """Whether the clients of a path read a member ``error``, and no problem's members.

    Those of TensorFlow Serving's, the Open Inference Protocol's and Hugging Face's paths do.
    """
    return _ERROR_MEMBER_PATHS.match(path) is not None


def problem_body(problem: Problem, *, error_member: bool) -> tuple[str, bytes]:
    """Media type and body of a problem.

    KServe's client reads the one member only from ``application/json`` without parameters.
    """
    if error_member:
        return "application/json", msgspec.json.encode(ErrorMessage(problem.detail))
    return MEDIA_TYPE, msgspec.json.encode(problem)
