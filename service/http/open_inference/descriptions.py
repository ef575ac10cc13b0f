"""What the service and its model say of themselves, as the protocol and Triton's extensions ask."""

from collections.abc import Sequence
from typing import Literal

import msgspec

import service
from service.http.open_inference.answers import PROBABILITIES
from service.http.open_inference.inputs import TENSOR
from service.inference.contract import INPUT_NAME, OUTPUT_NAME
from service.inference.layout import ONLY_VERSION
from service.serving.models.catalogue import Catalogue, Offer
from service.serving.served import Served

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)
_ANY = -1


class ServerMetadata(msgspec.Struct, frozen=True):
    """What answers, and which extensions of the protocol it has."""

    name: str = "labelserve"
    version: str = service.__version__
    extensions: Sequence[str] = EXTENSIONS


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output; -1 is any number of images."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """A model: it has one input and one output, which Triton's clients for images rely on."""

    name: str
    versions: Sequence[str]
    platform: str
    inputs: tuple[TensorMetadata]
    outputs: tuple[TensorMetadata]


class ModelReady(msgspec.Struct, frozen=True):
    """A model answers."""

    name: str
    ready: bool = True


# What Triton calls the states of a version.
_STATES: dict[str, Literal["LOADING", "READY", "UNAVAILABLE"]] = {
    "available": "READY",
    "opening": "LOADING",
    "refused": "UNAVAILABLE",
}


class IndexedModel(msgspec.Struct, frozen=True):
    """A version of a model of the repository."""

    name: str
    version: str = str(ONLY_VERSION)
    state: Literal["LOADING", "READY", "UNAVAILABLE"] = "READY"
    reason: str = ""

    @classmethod
    def of(cls, name: str, offer: Offer) -> "IndexedModel":
        """A version that answers, is being opened, or was refused."""
        return cls(name, str(offer.number), _STATES[offer.state], offer.reason)


class ConfigTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input or output in Triton's configuration, without the dimension of images."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    format: str | None = None


class SpecificVersions(msgspec.Struct, frozen=True):
    """The numbers of versions."""

    versions: Sequence[int]


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which versions are served."""

    specific: SpecificVersions


class ModelConfig(msgspec.Struct, frozen=True):
    """Triton's configuration of a model, as far as it says something here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    version_policy: VersionPolicy
    input: tuple[ConfigTensor]
    output: tuple[ConfigTensor]
    dynamic_batching: dict[str, int]


def model_metadata(served: Served, catalogue: Catalogue) -> ModelMetadata:
    """A model's name, input and output."""
    classifier = served.classifier
    pixels = (_ANY, *classifier.input_size, 3)
    probabilities = (_ANY, len(classifier.card.labels))
    return ModelMetadata(
        name=served.name,
        versions=[str(one.number) for one in catalogue.served],
        platform=PLATFORM,
        inputs=(TensorMetadata(INPUT_NAME, TENSOR, pixels),),
        outputs=(TensorMetadata(OUTPUT_NAME, PROBABILITIES, probabilities),),
    )


def model_config(served: Served, catalogue: Catalogue, max_images: int) -> ModelConfig:
    """The same as Triton configures it; ``max_images``: of one request."""
    classifier = served.classifier
    pixels = (*classifier.input_size, 3)
    labels = (len(classifier.card.labels),)
    return ModelConfig(
        name=served.name,
        platform=PLATFORM,
        backend="onnxruntime",
        max_batch_size=max_images,
        version_policy=VersionPolicy(SpecificVersions([one.number for one in catalogue.served])),
        input=(ConfigTensor(INPUT_NAME, f"TYPE_{TENSOR}", pixels, "FORMAT_NHWC"),),
        output=(ConfigTensor(OUTPUT_NAME, f"TYPE_{PROBABILITIES}", labels),),
        dynamic_batching={},
    )
