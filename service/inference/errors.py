"""What can go wrong between bytes and probabilities; none of it knows HTTP.

InferenceError
├── ModelError              the model file is not usable: the start stops
│   ├── ModelNotFound       no such file, or not readable
│   ├── ModelUnreadable     onnxruntime cannot open it, or it refers to data outside the file
│   ├── ModelTooLarge       it needs more memory than there is
│   ├── LabelError          a label of a version cannot be moved
│   ├── UnknownProvider     onnxruntime knows no execution provider of that name
│   ├── CardError           no card, or a card that does not say what it must
│   └── ContractMismatch    graph and card, or graph and contract, disagree
├── InvalidAnswer           the network's answer to an image is not finite (NaN, infinity)
└── ImageError              the image is not usable: the client's fault
    ├── EmptyImage          no bytes at all
    ├── UnsupportedFormat   not an image, or an image format that is not read here
    ├── BrokenImage         begins like an image that is read here, and cannot be decoded
    └── TooManyPixels       its header promises more pixels than the limit
"""


class InferenceError(Exception):
    """Base of everything that service.inference raises on purpose."""


class ModelError(InferenceError):
    """The model file is not usable."""


class ModelNotFound(ModelError):
    """The model file does not exist or cannot be read."""


class ModelUnreadable(ModelError):
    """onnxruntime cannot open the file, or it needs data outside of itself."""


class ModelTooLarge(ModelError):
    """Answering with the model could take more memory than there is."""


class LabelError(ModelError):
    """A label of a version cannot be moved."""


class UnknownProvider(ModelError):
    """onnxruntime knows no execution provider of that name."""


class CardError(ModelError):
    """The model carries no card, or one that cannot be understood."""


class ContractMismatch(ModelError):
    """The graph is not what the contract or the card promises."""


class InvalidAnswer(InferenceError):
    """The network's answer to an image is not finite numbers."""


class ImageError(InferenceError):
    """The image is not usable."""


class EmptyImage(ImageError):
    """There are no bytes."""


class UnsupportedFormat(ImageError):
    """The bytes are no image, or one in a format that is not read here."""


class BrokenImage(ImageError):
    """The bytes begin like a known image format but cannot be decoded."""


class TooManyPixels(ImageError):
    """The image's header promises more pixels than the limit allows."""
