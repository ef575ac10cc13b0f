"""Why a request is not answered, beyond what is wrong with its image.

RequestError
├── Unauthorized            no valid API key
├── BadParameter            a query parameter that is not as documented
├── BadBody                 the body cannot be taken apart, or ended early
├── MissingImage            no image, or not exactly one where one is expected
├── UnknownModel            no model, or no version, of that name is served
├── BadTensor               a tensor's name, type or shape is not the model's
├── WrongMediaType          the declared type is no image
├── UnsupportedCoding       the bytes are compressed or encoded
├── BodyTooLarge            more bytes than allowed
├── TooManyFiles            more images in a request than allowed
├── BodyTimeout             the body came too slowly
├── Overloaded              as many requests in flight as allowed
├── NotReady                starting or draining, or a model without a usable version
├── TooSlow                 the model cannot do it before the request's deadline
├── DeadlineExceeded        the request's time is over
└── ClientDisconnected      the client has closed its connection
"""


class RequestError(Exception):
    """Base of what service.serving raises on purpose."""


class Unauthorized(RequestError):
    """The request carries no valid API key."""


class BadParameter(RequestError):
    """A query parameter is not as documented."""


class BadBody(RequestError):
    """The body cannot be taken apart, or ended early."""


class MissingImage(RequestError):
    """There is no image, or not exactly one where one is expected."""


class UnknownModel(RequestError):
    """No model of that name is served, or not in that version."""


class BadTensor(RequestError):
    """A tensor's name, type, shape or length is not what the model takes."""


class WrongMediaType(RequestError):
    """The declared media type is no image."""


class UnsupportedCoding(RequestError):
    """The bytes of a body, or of a form's part, are compressed or encoded."""


class BodyTooLarge(RequestError):
    """The body has more bytes than allowed."""


class TooManyFiles(RequestError):
    """The request has more images than allowed."""


class BodyTimeout(RequestError):
    """The body came too slowly."""


class Overloaded(RequestError):
    """As many requests are in flight as allowed."""


class NotReady(RequestError):
    """The service is starting or draining, or a model has no version that can answer."""


class TooSlow(RequestError):
    """The model is too slow to do it within the time of a request."""


class DeadlineExceeded(RequestError):
    """The request's time is over."""


class ClientDisconnected(RequestError):
    """The client has closed its connection. The answer is counted and cannot be delivered."""
