"""Cross-origin resource sharing: which pages of other origins may read an answer (Fetch, 3.2).

A page's browser sends its origin, and gives the page the answer only if the answer's headers allow
it. No cookie is involved: a page has to know a key, where keys are set.
"""

from collections.abc import Sequence

ANY = "*"

# What a page may read besides the few headers that it always may.
_EXPOSED = "X-Request-ID, X-Model-Version, Retry-After, Inference-Header-Content-Length"
_ALLOWED = (
    "Authorization, Content-Type, X-API-Key, X-Request-ID, X-Canary-Key,"
    " Inference-Header-Content-Length, traceparent"
)
_METHODS = "GET, HEAD, POST"
# How long a browser may remember a preflight's answer: the longest that Chromium does.
_MAX_AGE_SECONDS = 7200


def cors_headers(origins: Sequence[str], origin: str, *, preflight: bool) -> dict[str, str]:
    """What every answer to a request carries for browsers.

    Args:
        origins: those that are allowed; ``*`` among them allows all.
        origin: the request's ``Origin``, empty without one.
        preflight: the browser asks whether it may send the request itself.
    """
    if not origins:
        return {}
    answer = {} if ANY in origins else {"Vary": "Origin"}
    if not origin or not (ANY in origins or origin in origins):
        return answer
    answer["Access-Control-Allow-Origin"] = ANY if ANY in origins else origin
    if preflight:
        answer["Access-Control-Allow-Methods"] = _METHODS
        answer["Access-Control-Allow-Headers"] = _ALLOWED
        answer["Access-Control-Max-Age"] = str(_MAX_AGE_SECONDS)
    else:
        answer["Access-Control-Expose-Headers"] = _EXPOSED
    return answer
