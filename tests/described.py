"""Whether an answer is one that the API's description knows: asked of every answer in the tests."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol
from urllib.parse import unquote

from jsonschema import Draft202012Validator

from service.http.openapi.document import document
from service.http.openapi.operations import schema_of_errors
from service.serving.problems import has_error_member
from service.settings import Settings

# Without an operation of their own, because every path has them.
IMPLICIT = ("HEAD", "OPTIONS")

JsonObject = dict[str, Any]


class Headers(Protocol):
    """Looked up in whatever case."""

    def __getitem__(self, name: str, /) -> str: ...

    def __contains__(self, name: str, /) -> bool: ...


@cache
def description_of(**routes: Any) -> "Description":
    """The description of a service that asks for keys wherever it can.

    Args:
        routes: settings of those that a platform chooses, and the root path.
    """
    return Description(Settings(api_keys=("a-key",), open_metrics=False, **routes))


class Description:
    """The description of a service with these settings."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root_path or ""
        self._document = document(settings)
        paths = sorted(self._document["paths"].items(), key=lambda item: "{" in item[0])
        # Paths without parts that vary come first.
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "[^/:]+", path)), operations)
            for path, operations in paths
        ]
        # Stricter than described: what is not described is an error.
        self._schemas = {
            name: schema | ({"additionalProperties": False} if "properties" in schema else {})
            for name, schema in self._document["components"]["schemas"].items()
        }
        self._validators: dict[str, Draft202012Validator] = {}

    def check_answer(
        self, method: str, target: str, status: int, headers: Headers, body: bytes
    ) -> None:
        """An answer to a request.

        Raises:
            AssertionError: the description does not know it.
        """
        path = self._path(target)
        operations = self._operations(path)
        if operations and method == "OPTIONS" and status == 200:
            assert not body
            allowed = {name.strip() for name in headers["Allow"].split(",")} - {*IMPLICIT}
            assert allowed == {name.upper() for name in operations}, allowed
            return
        operation = operations.get("get" if method == "HEAD" else method.lower())
        known = self._shared(path) if operation is None else operation["responses"]
        assert str(status) in known, f"{method} {path}: {status} is not described"
        response = self._resolved(known[str(status)])
        self._check(response, headers, None if method == "HEAD" else body)

    def check_some_answer(self, status: int, headers: Headers, body: bytes | None) -> None:
        """An answer to a request that is not known: it has to be one of some operation.

        Raises:
            AssertionError: the description knows none like it.
        """
        reasons = []
        for candidate in self._all_responses(str(status)):
            try:
                self._check(candidate, headers, body)
            except AssertionError as error:
                reasons.append(str(error))
            else:
                return
        raise AssertionError(f"{status} is not described so: {reasons}")

    def _check(self, response: JsonObject, headers: Headers, body: bytes | None) -> None:
        for name, pointer in response["headers"].items():
            header = self._resolved(pointer)
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
            found = self._validator(content[media_type]["schema"]).iter_errors(json.loads(body))
            errors = [f"{error.json_path}: {error.message}" for error in found]
            assert not errors, errors

    def _validator(self, schema: JsonObject) -> Draft202012Validator:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**schema, "components": {"schemas": self._schemas}}
            self._validators[key] = Draft202012Validator(whole)
        return self._validators[key]

    def _path(self, target: str) -> str:
        """Without the root path and the query, and as the service reads it."""
        path = "/" + unquote(target.partition("?")[0]).lstrip("/")
        rest = path.removeprefix(self._root)
        return "/" + rest.lstrip("/") if rest[:1] in ("", "/") else path

    def _operations(self, path: str) -> JsonObject:
        return next((found for pattern, found in self._patterns if pattern.fullmatch(path)), {})

    def _shared(self, path: str) -> JsonObject:
        """The responses of a request without an operation, by status."""
        shape = schema_of_errors(error_member=has_error_member(path))
        return {
            name.removeprefix(shape): response
            for name, response in self._document["components"]["responses"].items()
            if name.startswith(shape)
        }

    def _all_responses(self, status: str) -> Iterator[JsonObject]:
        of_operations = (
            operation["responses"]
            for operations in self._document["paths"].values()
            for operation in operations.values()
        )
        for responses in (self._shared("/"), self._shared("/v2"), *of_operations):
            if status in responses:
                yield self._resolved(responses[status])

    def _resolved(self, item: JsonObject) -> JsonObject:
        if "$ref" not in item:
            return item
        *_, kind, name = item["$ref"].split("/")
        found: JsonObject = self._document["components"][kind][name]
        return found
