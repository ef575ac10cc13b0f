"""The parts that descriptions of operations are put together from.

Schemas of answers come from the types that are encoded, statuses and headers of errors from
``serving.problems``: here they are only pointed at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import msgspec

from service.http.openapi import examples
from service.serving.errors import (
    BadBody,
    BodyTimeout,
    DeadlineExceeded,
    Overloaded,
    Unauthorized,
)
from service.serving.problems import (
    KINDS,
    MEDIA_TYPE,
    Problem,
    has_error_member,
    problem_body,
    problem_headers,
    problem_of,
    problem_of_status,
)

JsonObject = dict[str, Any]

# What any request may be answered with, whichever route it asks for.
MALFORMED: dict[int, str] = {
    400: "The request is not valid HTTP",
    414: "The request target is too long",
    417: "An unknown expectation",
    431: "Header fields are too long or too many",
    500: "An error in the service; the log has it under the request's id",
    501: "An unknown transfer coding",
}
# And one that asks for no route, or for one that does not take its method.
UNROUTED: dict[int, str] = {
    404: "No such route",
    405: "The route does not take this method",
}
_PATHS_OF_SHAPES = {"Problem": "/", "ErrorMessage": "/v2"}
_ANY_REQUEST = (BadBody, BodyTimeout, Overloaded, DeadlineExceeded)


def reference(kind: str, name: str) -> JsonObject:
    """A pointer to a component: of ``schemas``, ``responses``, ``parameters`` or ``headers``."""
    return {"$ref": f"#/components/{kind}/{name}"}


def text_of(text: str) -> str:
    """Text as it is written in code, without its indentation."""
    return dedent(text).strip()


# ---- operations ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path.

    Args:
        name: its ``operationId``, after which clients name their functions.
        summary: in a few words.
        description: what it does, in Markdown.
        tag: the group of operations that it belongs to.
        answers: what is no error, by status.
        errors: the domain errors that it may be answered with, beyond those of any request.
        needs_key: whether a key is asked for where keys are set.
        parameters: of query, path and head.
        body: its ``requestBody``.
    """

    name: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, JsonObject]
    errors: Sequence[type[Exception]] = ()
    needs_key: bool = True
    parameters: Sequence[JsonObject] = ()
    body: JsonObject | None = None

    def described(self, path: str) -> JsonObject:
        """The operation object of OpenAPI, for this path."""
        answered = {str(status): answer for status, answer in self.answers.items()}
        return {
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": text_of(self.description),
            "parameters": [*self.parameters, reference("parameters", "RequestId")],
            **({"requestBody": self.body} if self.body else {}),
            "responses": answered | responses(path, self.errors, needs_key=self.needs_key),
            **({} if self.needs_key else {"security": []}),
        }


# ---- answers -------------------------------------------------------------------------------------


def answer(
    description: str,
    content: JsonObject | None = None,
    headers: Iterable[str] = (),
) -> JsonObject:
    """An answer with ``X-Request-ID`` and the headers of these names."""
    named = ("X-Request-ID", *headers)
    described: JsonObject = {
        "description": description,
        "headers": {name: reference("headers", name) for name in named},
    }
    return described | ({"content": content} if content else {})


def json_answer(
    description: str, example: msgspec.Struct, headers: Iterable[str] = ()
) -> JsonObject:
    """An answer whose body is a struct of the example's type."""
    return answer(description, json_content(example), headers)


def json_content(example: msgspec.Struct) -> JsonObject:
    """JSON with the schema of the example's type."""
    schema = reference("schemas", type(example).__name__)
    return {"application/json": {"schema": schema, "example": msgspec.to_builtins(example)}}


def responses(path: str, errors: Iterable[type[Exception]], *, needs_key: bool) -> JsonObject:
    """All errors of an operation of this path, by status: these, and those of any request."""
    anyway = {*_ANY_REQUEST, Unauthorized} if needs_key else {*_ANY_REQUEST}
    found = {status: _shared(path, status) for status in MALFORMED}
    for status, kinds in _by_status({*errors, *anyway}).items():
        shared = anyway.issuperset(kinds)
        found[status] = _shared(path, status) if shared else _refusal(path, status, kinds)
    return {str(status): found[status] for status in sorted(found)}


def shared_responses() -> JsonObject:
    """The components that ``responses`` points at, and those that belong to no route."""
    components: JsonObject = {}
    for name, path in _PATHS_OF_SHAPES.items():
        found = {status: _refusal(path, status, []) for status in MALFORMED | UNROUTED}
        for status, kinds in _by_status({*_ANY_REQUEST, Unauthorized}).items():
            found[status] = _refusal(path, status, kinds)
        found[405]["headers"]["Allow"] = reference("headers", "Allow")
        components |= {f"{name}{status}": found[status] for status in sorted(found)}
    return components


def shape_of_errors(path: str) -> str:
    """The name of the schema that the errors of a path have."""
    media_type, _ = problem_body(problem_of_status(404, ""), error_member=has_error_member(path))
    return "Problem" if media_type == MEDIA_TYPE else "ErrorMessage"


def _shared(path: str, status: int) -> JsonObject:
    return reference("responses", f"{shape_of_errors(path)}{status}")


def _by_status(errors: Iterable[type[Exception]]) -> dict[int, list[type[Exception]]]:
    found: dict[int, list[type[Exception]]] = {}
    for error in sorted(errors, key=lambda error: KINDS[error].slug):
        found.setdefault(KINDS[error].status, []).append(error)
    return found


def _refusal(path: str, status: int, errors: Sequence[type[Exception]]) -> JsonObject:
    problems = {
        KINDS[error].slug: problem_of(error(examples.DETAILS[error]), examples.REQUEST_ID)
        for error in errors
    }
    titles = [f"`{name}`: {problem.title}" for name, problem in problems.items()]
    plain = (MALFORMED | UNROUTED).get(status)
    if plain:
        titles.append(plain)
        problems["about-blank"] = problem_of_status(status, plain, examples.REQUEST_ID)
    described = answer("; ".join(titles), _content(path, problems))
    for problem in problems.values():
        names = sorted(problem_headers(problem))
        described["headers"] |= {name: reference("headers", name) for name in names}
    return described


def _content(path: str, problems: Mapping[str, Problem]) -> JsonObject:
    shape = has_error_member(path)
    bodies = {name: problem_body(one, error_member=shape) for name, one in problems.items()}
    shown = {name: {"value": msgspec.json.decode(body)} for name, (_, body) in bodies.items()}
    (media_type,) = {media_type for media_type, _ in bodies.values()}
    schema = reference("schemas", shape_of_errors(path))
    return {media_type: {"schema": schema, "examples": shown}}


# ---- requests ------------------------------------------------------------------------------------


def binary(media_type: str) -> JsonObject:
    """Bytes of a media type.

    ``contentMediaType`` is the way of OpenAPI 3.1; generators of clients know ``format: binary``.
    """
    return {"type": "string", "format": "binary", "contentMediaType": media_type}


def query(name: str, description: str, schema: JsonObject, example: Any) -> JsonObject:
    """A parameter of the query string that may be left out."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema,
        "example": example,
    }
