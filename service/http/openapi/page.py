"""The page that shows a description: HTML and a style, no script, nothing from elsewhere."""

import base64
import json
import re
import shlex
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from service.http.openapi.operations import JsonObject

_FOLDER = Path(__file__).parent
_LIMITS = {"minimum": "at least", "maximum": "at most", "maxItems": "at most", "default": "default"}


def render(document: JsonObject, address: str) -> str:
    """The page of a description.

    Args:
        document: as ``document`` makes it.
        address: the service's, for the examples with curl.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "resolved": partial(_resolved, document),
        "kind": _kind,
        "prose": _prose,
        "pretty": _pretty,
        "anchor": _anchor,
    }
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    lines = {
        operation["operationId"]: _curl(document, address, *where)
        for *where, operation in operations
    }
    page = environment.get_template("page.html")
    return page.render(document, style=_style(), all_operations=operations, curl=lines)


def content_security_policy() -> str:
    """What lets a browser show the page: its own style, and nothing else."""
    digest = base64.b64encode(sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


@cache
def _style() -> Markup:
    return Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))  # noqa: S704  ours


# ---- filters -------------------------------------------------------------------------------------


def _resolved(document: JsonObject, item: JsonObject) -> JsonObject:
    """A component in place of a pointer to it."""
    pointer = item.get("$ref")
    if pointer is None:
        return item
    found: Any = document
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    resolved: JsonObject = found
    return resolved


def _kind(schema: JsonObject) -> Markup:
    """What values a schema takes, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    choices = schema.get("anyOf", schema.get("oneOf"))
    if choices:
        return Markup(" or ").join(map(_kind, choices))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return Markup(" or ").join(Markup("<code>{}</code>").format(value) for value in values)
    limits = [f", {word} {schema[key]:,}" for key, word in _LIMITS.items() if _has(schema, key)]
    return _type(schema) + "".join(limits)


def _type(schema: JsonObject) -> Markup:
    if schema.get("format") == "binary":
        return Markup("bytes")
    if "prefixItems" in schema:
        return Markup("list of {}").format(Markup(", ").join(map(_kind, schema["prefixItems"])))
    if isinstance(schema.get("items"), dict):
        return Markup("list of {}").format(_kind(schema["items"]))
    if isinstance(schema.get("additionalProperties"), dict):
        return Markup("map of {}").format(_kind(schema["additionalProperties"]))
    types = schema.get("type", "any value")
    return escape(" or ".join([types] if isinstance(types, str) else types))


def _has(schema: JsonObject, key: str) -> bool:
    return isinstance(schema.get(key), int | float)


def _prose(text: str) -> Markup:
    """Paragraphs and `code` of Markdown; all else of it is not used here."""
    paragraphs = [str(escape(part)) for part in re.split(r"\n\s*\n", text.strip())]
    marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", part) for part in paragraphs if part]
    return Markup("").join(Markup(f"<p>{part}</p>") for part in marked)  # noqa: S704  escaped above


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _anchor(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


# ---- examples with curl --------------------------------------------------------------------------


def _curl(document: JsonObject, address: str, method: str, path: str) -> str:
    """A command that asks for an operation, with the examples of its parameters."""
    operation = document["paths"][path][method.lower()]
    parameters = [_resolved(document, one) for one in operation["parameters"]]
    for parameter in parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    asked = [f"{one['name']}={one['example']}" for one in parameters if one["in"] == "query"]
    root = document["servers"][0]["url"] if "servers" in document else ""
    target = address + root + path
    words = _body_words(operation) or ([] if method == "GET" else ["-X", method])
    return shlex.join(["curl", *words, target + (f"?{asked[0]}" if asked else "")])


def _body_words(operation: JsonObject) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return []
    media_type, described = next(iter(content.items()))
    if media_type.startswith("multipart/"):
        field = next(iter(described["schema"]["properties"]))
        return ["-F", f"{field}=@a.jpg", "-F", f"{field}=@b.jpg"]
    header = ["-H", f"Content-Type: {media_type}"]
    examples = [example["value"] for example in described.get("examples", {}).values()]
    if examples:
        return [*header, "-d", json.dumps(examples[0])]
    return [*header, "--data-binary", "@cat.jpg"]
