"""What answers a request: one version of one model; and which one a request asks for."""

from collections.abc import Mapping
from typing import NamedTuple

from service.inference.classifier import Classifier
from service.serving.parameters import parse_text

# The label of what answers a share of the requests that name no version.
CANARY = "canary"

# What OVMS' clients send where they want the version that answers by default.
_BY_DEFAULT = "0"


class Asked(NamedTuple):
    """The model and version that a request names; empty where it leaves them open.

    ``version``: a number, or a label.
    """

    name: str = ""
    version: str = ""

    @classmethod
    def of(cls, arguments: Mapping[str, str], query: str = "") -> "Asked":
        """What a path says, and a raw query string where the path says nothing of versions.

        Args:
            arguments: the path's ``name``, ``version`` and ``label``, as far as it has them.
            query: may have ``version``.
        """
        version = arguments.get("version") or arguments.get("label")
        if version is None:
            version = parse_text(query, "version") if query else ""
        return cls(arguments.get("name", ""), "" if version == _BY_DEFAULT else version)


class Served(NamedTuple):
    """An opened version of a model. A request is given one when its head is there, and keeps it.

    ``name``: what the model is called in paths; ``number``: the version's, at least 1; ``labels``:
    those that lead to it (``stable``, ``canary``), sorted; ``classifier``: what predicts.
    """

    name: str
    number: int
    labels: tuple[str, ...]
    classifier: Classifier
