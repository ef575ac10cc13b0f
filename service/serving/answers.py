"""What a 200 says: the types that are encoded, and from which the API's description is made."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from service.inference.classifier import Classifier, Prediction
from service.serving.problems import Problem


class ModelVersion(Struct, frozen=True):
    """Which model has answered, by its card."""

    name: str
    version: str

    @classmethod
    def of(cls, classifier: Classifier) -> "ModelVersion":
        """Name and version of a model."""
        return cls(classifier.card.name, classifier.card.version)


class Predictions(Struct, frozen=True):
    """What a model says of one image: the labels that were asked for, most probable first."""

    model: ModelVersion
    predictions: list[Prediction]


class FileResult(Struct, frozen=True):
    """What became of one file of a form: its predictions, or its problem."""

    filename: str
    predictions: list[Prediction] | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchPredictions(Struct, frozen=True):
    """One result for each file of a form, in order."""

    model: ModelVersion
    results: list[FileResult]


class Status(Struct, frozen=True):
    """What a probe asks for."""

    status: Literal["live", "ready"]


class Health(Struct, frozen=True):
    """That the service is ready, and which model answers."""

    status: Literal["ready"]
    model: ModelVersion
