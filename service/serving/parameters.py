"""Which labels a request wants: the parameters of a query string, and of JSON."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import parse_qs

from msgspec import Meta

from service.inference.classifier import ALL, Selection
from service.serving.errors import BadParameter

# Neither int() nor float() could be asked alone: both take spaces, underscores, and digits of other
# scripts. Nine digits exceed any number of labels.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?")

# ``top_k`` in JSON, where 3.0 is a whole number, too: some clients write it so.
_MOST_LABELS = 999_999_999
TopK = Annotated[float, Meta(ge=1, le=_MOST_LABELS, multiple_of=1)]


def parse_selection(query: str) -> Selection:
    """``top_k`` and ``min_probability`` of a raw query string; without them, all labels.

    Raises:
        BadParameter: the one is not a whole number of at least 1, or the other not a number from 0
            to 1.
    """
    if not query:
        return ALL
    found = parse_qs(query, keep_blank_values=True)
    return Selection(_top_k(found), _min_probability(found))


def parse_text(query: str, name: str) -> str:
    """A parameter of a raw query string as text; "" without it."""
    return parse_qs(query).get(name, [""])[0]


def _top_k(found: Mapping[str, Sequence[str]]) -> int | None:
    if "top_k" not in found:
        return None
    text = found["top_k"][0]
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) < 1:
        raise BadParameter("top_k has to be a whole number of at least 1")
    return int(text)


def _min_probability(found: Mapping[str, Sequence[str]]) -> float:
    if "min_probability" not in found:
        return 0.0
    text = found["min_probability"][0]
    if not _NUMBER.fullmatch(text) or float(text) > 1:
        raise BadParameter("min_probability has to be a number from 0 to 1, such as 0.2")
    return float(text)
