"""What a request's server span says, by OpenTelemetry's semantic conventions for HTTP."""

from urllib.parse import urlsplit

from service.runtime.records import UNMATCHED, RequestRecord, Trace

Attributes = dict[str, str | int]

# A client may invent methods, and each would be a span of its own name.
_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)


def server_name(record: RequestRecord) -> str:
    """Method and route, as far as the service knows them: there are few such names."""
    method = record.method if record.method in _METHODS else "HTTP"
    return method if record.route == UNMATCHED else f"{method} {record.route}"


def server_attributes(record: RequestRecord, trace: Trace) -> Attributes:
    """What came, what answered it, and with what."""
    attributes: Attributes = {
        **_method(record.method),
        "url.path": trace.path,
        "url.scheme": "https" if _first(trace, "X-Forwarded-Proto") == "https" else "http",
        "http.response.status_code": record.status,
        "labelserve.request_id": record.request_id,
        **_server(trace.headers.get("Host", "")),
    }
    if record.route != UNMATCHED:
        attributes["http.route"] = record.route
    if record.status >= 500:
        attributes["error.type"] = record.problem or str(record.status)
    if record.problem is not None:
        attributes["labelserve.problem"] = record.problem
    if record.model:
        attributes["labelserve.model.name"] = record.model
        attributes["labelserve.model.version"] = record.version
    if record.images:
        attributes["labelserve.images"] = len(record.images)
        attributes["labelserve.image.bytes"] = sum(size for size, _ in record.images)
        attributes["labelserve.image.pixels"] = sum(pixels for _, pixels in record.images)
    return attributes


def _method(method: str) -> Attributes:
    if method in _METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}


def _server(host: str) -> Attributes:
    """Whom the client has asked."""
    try:
        asked = urlsplit(f"//{host}")
        address, port = asked.hostname, asked.port
    except ValueError:
        return {}
    found: Attributes = {}
    if address:
        found["server.address"] = address
    if address and port:
        found["server.port"] = port
    return found


def _first(trace: Trace, name: str) -> str:
    """The first of a header's values: that of the proxy next to the client."""
    return trace.headers.get(name, "").partition(",")[0].strip().lower()
