"""The parameters of a query string."""

from urllib.parse import parse_qs

from service.serving.errors import BadParameter


def parse_top_k(query: str) -> int | None:
    """``top_k`` of a raw query string; None, for all labels, without it.

    Raises:
        BadParameter: not a whole number of at least 1.
    """
    if not query:
        return None
    found = parse_qs(query, keep_blank_values=True).get("top_k")
    if found is None:
        return None
    text = found[0]
    # isdecimal alone would take digits of other scripts. Nine digits exceed any number of labels.
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise BadParameter("top_k has to be a whole number of at least 1")
    return int(text)
