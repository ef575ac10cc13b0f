"""Whether an answer is one that the API's description knows: asked of every answer in the tests."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from service.http.openapi.document import document
from service.http.openapi.operations import schema_of_errors
from service.serving.problems import has_error_member
from service.settings import Settings

# Without an operation of their own, because every path has them.
IMPLICIT = ("HEAD", "OPTIONS")
_URI = "urn:description"


class Headers(Protocol):
    """Looked up in whatever case."""

    def __getitem__(self, name: str, /) -> str: ...

    def __contains__(self, name: str, /) -> bool: ...


def check_answer(method: str, path: str, status: int, headers: Headers, body: bytes) -> None:
    """An answer to a request of this method and path (with or without a query).

    Raises:
        AssertionError: the description does not know it.
    """
    operations = _operations(path)
    if operations and method == "OPTIONS" and status == 200:
        assert not body
        allowed = {name.strip() for name in headers["Allow"].split(",")} - {*IMPLICIT}
        assert allowed == {name.upper() for name in operations}, allowed
        return
    operation = operations.get("get" if method == "HEAD" else method.lower())
    known = _responses(path) if operation is None else operation["responses"]
    told = f"{method} {path}: {status} is not described"
    assert str(status) in known, told
    _check(_resolved(known[str(status)]), headers, None if method == "HEAD" else body)


def check_some_answer(status: int, headers: Headers, body: bytes | None) -> None:
    """An answer to a request that is not known: it has to be one of some operation.

    Raises:
        AssertionError: the description knows none like it.
    """
    reasons = []
    for candidate in _all_responses(str(status)):
        try:
            _check(candidate, headers, body)
        except AssertionError as error:
            reasons.append(str(error))
        else:
            return
    raise AssertionError(f"{status} is not described so: {reasons}")


def _check(response: dict[str, Any], headers: Headers, body: bytes | None) -> None:
    for name, pointer in response["headers"].items():
        header = _resolved(pointer)
        assert name in headers or not header.get("required"), f"there is no {name}"
        if name in headers and header["schema"]["type"] == "integer":
            assert headers[name].isdecimal(), (name, headers[name])
    content = response.get("content")
    if content is None:
        assert not body, body
        return
    media_type = headers["Content-Type"].partition(";")[0]
    assert media_type in content, f"{media_type} is not described"
    if body is not None and media_type.endswith("json"):
        _validate(content[media_type]["schema"], msgspec.json.decode(body))


def _validate(schema: dict[str, Any], value: Any) -> None:
    pointer = schema.get("$ref")
    validator = _validator(pointer) if pointer else Draft202012Validator(schema)
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not errors, errors


@cache
def _document() -> dict[str, Any]:
    """The description of a service that asks for keys wherever it can."""
    return document(Settings(api_keys=("a-key",), open_metrics=False))


@cache
def _validator(pointer: str) -> Draft202012Validator:
    """A component's schema, and stricter than it is: what is not described is an error."""
    strict: dict[str, Any] = {"components": {"schemas": {}}}
    for name, schema in _document()["components"]["schemas"].items():
        closed = {"additionalProperties": False} if "properties" in schema else {}
        strict["components"]["schemas"][name] = schema | closed
    resource: Resource[Any] = Resource.from_contents(strict, DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(_URI, resource)
    return Draft202012Validator({"$ref": _URI + pointer}, registry=registry)


def _operations(target: str) -> dict[str, Any]:
    path = unquote("/" + target.partition("?")[0].lstrip("/"))
    return next((found for pattern, found in _patterns() if pattern.fullmatch(path)), {})


@cache
def _patterns() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """Paths without parts that vary come first."""
    paths = sorted(_document()["paths"].items(), key=lambda item: "{" in item[0])
    return [(re.compile(re.sub(r"\{\w+\}", "[^/:]+", path)), found) for path, found in paths]


def _responses(path: str) -> dict[str, Any]:
    """Of a request without an operation, by status."""
    shape = schema_of_errors(error_member=has_error_member(path))
    components = _document()["components"]["responses"]
    return {
        name.removeprefix(shape): response
        for name, response in components.items()
        if name.startswith(shape)
    }


def _all_responses(status: str) -> Iterator[dict[str, Any]]:
    for path in ("/", "/v2"):
        if status in _responses(path):
            yield _responses(path)[status]
    for operations in _document()["paths"].values():
        for operation in operations.values():
            if status in operation["responses"]:
                yield _resolved(operation["responses"][status])


def _resolved(item: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in item:
        return item
    *_, kind, name = item["$ref"].split("/")
    found: dict[str, Any] = _document()["components"][kind][name]
    return found
