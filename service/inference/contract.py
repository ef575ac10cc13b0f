"""The model card: what a model file promises beyond its graph.

The card is JSON under one key of the ONNX ``metadata_props``. Whatever can be an operator of the
graph is one; the card holds the rest.
"""

import re
from typing import Any, Literal, Self

import msgspec

from service.inference.errors import CardError

METADATA_KEY = "labelserve.card"
INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
FAMILIARITY_NAME = "familiarity"

Activation = Literal["softmax", "sigmoid"]

# How images are brought to the input's size, as ``centre_share`` reads it.
ResizeRule = str
_CENTRE = re.compile(r"crop-(0\.[0-9]{1,4})")

# Of the data URLs of all examples together.
EXAMPLES_LENGTH = 40_000
_EXAMPLE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def centre_share(resize: ResizeRule) -> float | None:
    """Which part of an image a resize rule takes.

    Returns:
        None for ``stretch``: the whole image, its ratio given up. For a crop, what is kept of each
        side of the largest centred area in the wanted ratio: 1.0 for ``crop``, 0.875 for
        ``crop-0.875``.

    Raises:
        ValueError: it is no rule.
    """
    if resize == "stretch":
        return None
    if resize == "crop":
        return 1.0
    found = _CENTRE.fullmatch(resize)
    share = float(found[1]) if found else 0.0
    if not share:
        raise ValueError(
            f"{resize!r} is not stretch, crop, or crop with a share of each side as in crop-0.875"
            " (above 0, below 1, at most four decimals)"
        )
    return share


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A strictly read, immutable part of the card."""


class InputSpec(_Part, frozen=True):
    """The pixels that the graph takes: uint8 [N, height, width, 3], RGB, 0 to 255."""

    height: int
    width: int
    resize: ResizeRule = "stretch"

    def __post_init__(self) -> None:
        try:
            centre_share(self.resize)
        except ValueError as error:
            raise ValueError(f"input.resize: {error}") from error


class TrainingData(_Part, frozen=True):
    """What the model learned from; ``images`` counts images per split."""

    name: str
    licence: str
    images: dict[str, int]


class LabelFigures(_Part, frozen=True):
    """Precision and recall in 0..1 (None where undefined) over ``support`` images of one label."""

    precision: float | None
    recall: float | None
    support: int


class ReliabilityBin(_Part, frozen=True):
    """``images`` that were answered about as surely, and the share that was ``right``, 0..1.

    ``lowest`` and ``mean`` are of their largest probabilities; the next bin's ``lowest`` is above
    all of them.
    """

    lowest: float
    mean: float
    right: float
    images: int


class Figures(_Part, frozen=True, omit_defaults=True):
    """Measured on this very file, through the service's own code.

    ``accuracy`` and ``calibration_error`` (15 equal-mass bins) are in 0..1; ``parity`` is the
    largest absolute difference from the probabilities of the network that the file was made from.
    Each is None where it was not measured. ``reliability``: how far an answer can be trusted, by
    its largest probability, the least sure ones first; empty where too few images were measured.
    """

    split: str
    images: int
    accuracy: float | None
    calibration_error: float | None
    parity: float | None
    per_label: dict[str, LabelFigures]
    reliability: tuple[ReliabilityBin, ...] = ()


NOTHING_MEASURED = Figures("none", 0, None, None, None, {})


class StrangerFigures(_Part, frozen=True):
    """How well familiarity tells ``images`` of something else from images of the labels.

    ``auroc``: how often an image of the labels is the more familiar of the two, 0..1. ``passed``:
    the share of strangers that are more familiar than the strangest 5 % of images of the labels.
    """

    images: int
    auroc: float
    passed: float


class Familiarity(_Part, frozen=True, omit_defaults=True):
    """What the second output says, and how far it can be trusted.

    An image whose familiarity is below ``threshold`` is called unfamiliar. ``held_back``: how many
    images the familiarity is a share of. ``false_alarms``: the share of the images behind
    ``figures`` that are called unfamiliar, None where it was not measured. ``strangers``: by the
    name of a set of images of something else.
    """

    threshold: float
    held_back: int
    false_alarms: float | None
    strangers: dict[str, StrangerFigures] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"familiarity.threshold: {self.threshold} is not 0 to 1")


class Example(_Part, frozen=True, omit_defaults=True):
    """A test image to try the model with, and the ``label`` that it has.

    ``image``: a PNG or JPEG file as a data URL; not there where a card is shown without images.
    """

    label: str
    image: str = ""

    def __post_init__(self) -> None:
        if self.image and not _EXAMPLE.fullmatch(self.image):
            raise ValueError("examples: an image that is no data URL of a PNG or JPEG in base64")


class Provenance(_Part, frozen=True, omit_defaults=True):
    """How the file came to be: ISO 8601 UTC date, the command, its whole configuration.

    ``initial_weights``: whose they were and under which licence; empty where they were random.
    ``adopted_from``: the foreign file that the model was made from, with its SHA-256 and what wrote
    it; empty where it was trained here.
    """

    created: str
    command: str
    config: dict[str, Any]
    libraries: dict[str, str]
    initial_weights: str = ""
    adopted_from: str = ""


class ModelCard(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """All that a model file says about itself.

    ``activation``: what makes the probabilities. Those of ``softmax`` sum to 1; with ``sigmoid``
    each label's stands alone, and an image may have several labels, or none. ``familiarity`` is
    there where the graph has that output. ``examples`` are some of the test images. Schema 1 is
    what the first service reads: it has no familiarity, examples and reliability.
    """

    schema: Literal[1, 2]  # required, so that a file without it is refused
    name: str
    version: str
    labels: tuple[str, ...]
    input: InputSpec
    activation: Activation = "softmax"
    temperature: float
    training_data: TrainingData
    figures: Figures
    familiarity: Familiarity | None = None
    examples: tuple[Example, ...] = ()
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.schema == 1 and (self.familiarity or self.examples or self.figures.reliability):
            raise ValueError("familiarity, examples and figures.reliability are of schema 2")
        if len(self.labels) < 2:
            raise ValueError(f"{len(self.labels)} labels, 2 are the least")
        if len(set(self.labels)) != len(self.labels) or "" in self.labels:
            raise ValueError("an empty or repeated label")
        if self.input.height < 1 or self.input.width < 1:
            raise ValueError(f"an input of {self.input.height}x{self.input.width}")
        if not self.name or not self.version:
            raise ValueError("an empty name or version")
        if not {example.label for example in self.examples} <= {*self.labels}:
            raise ValueError("examples: a label that the model does not have")
        if sum(len(example.image) for example in self.examples) > EXAMPLES_LENGTH:
            raise ValueError(f"examples: more than {EXAMPLES_LENGTH} characters of images")

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a card strictly.

        Raises:
            CardError: not JSON, an unknown schema version or field, a missing field, a wrong type,
                a resize rule that is none, or labels that are fewer than two, empty or repeated.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CardError(f"the model's card cannot be read: {error}") from error

    def without_images(self) -> Self:
        """The card as it is shown: of the examples, their labels alone."""
        labels = tuple(Example(example.label) for example in self.examples)
        return msgspec.structs.replace(self, examples=labels)

    def to_json(self) -> str:
        """The card as compact JSON, fields in the order of their definition."""
        return msgspec.json.encode(self).decode()
