"""The parts that descriptions of operations are put together from.

Schemas of answers come from the types that are encoded, statuses and headers of errors from
``serving.problems``: here they are only pointed at.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    ErrorMessage,
    Problem,
    problem_body,
    problem_headers,
    problem_of,
    problem_of_status,
)
from service.serving.responses import MODEL_VERSION

JsonObject = dict[str, Any]
# What JSON an answer holds: a struct, or a list of structs of one type.
Example = msgspec.Struct | list[msgspec.Struct]

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
_VERSION_IN_PATH = re.compile(r"\{(version|label)\}")
_PART = re.compile(r"\{(\w+)\}")
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
        parameters: of query and head; those of the path follow from it.
        body: its ``requestBody``.
    """

    name: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, JsonObject]
    errors: Sequence[type[Exception]] = ()
    parameters: Sequence[JsonObject] = ()
    body: JsonObject | None = None

    def described(self, path: str, *, needs_key: bool, error_member: bool) -> JsonObject:
        """The operation object of OpenAPI.

        Args:
            path: where it is.
            needs_key: whether a key is asked for where keys are set.
            error_member: whether its clients read an error as one member, as ``problems`` says.
        """
        refused = responses(self.errors, needs_key=needs_key, error_member=error_member)
        answered = {str(status): self._answered(answer) for status, answer in self.answers.items()}
        parts = [reference("parameters", part.capitalize()) for part in _PART.findall(path)]
        return {
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": text_of(self.description),
            "parameters": [
                *parts,
                *self.parameters,
                *(self._which(path) if self.body else ()),
                reference("parameters", "RequestId"),
            ],
            **({"requestBody": self.body} if self.body else {}),
            "responses": answered | refused,
            **({} if needs_key else {"security": []}),
        }

    def _which(self, path: str) -> Iterator[JsonObject]:
        """What says which version answers images, where the path does not."""
        if not _VERSION_IN_PATH.search(path):
            yield reference("parameters", "WantedVersion")
            yield reference("parameters", "CanaryKey")

    def _answered(self, answer: JsonObject) -> JsonObject:
        """An answer, with the header that all answers to images have."""
        if not self.body:
            return answer
        told = {MODEL_VERSION: reference("headers", MODEL_VERSION)}
        return {**answer, "headers": answer["headers"] | told}


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


def json_answer(description: str, *examples: Example) -> JsonObject:
    """An answer whose body is as one of the examples."""
    return answer(description, json_content(*examples))


def json_content(*examples: Example) -> JsonObject:
    """JSON with the schemas of the examples' types."""
    schemas = {_name(example): _schema(example) for example in examples}
    values = {_name(example): {"value": msgspec.to_builtins(example)} for example in examples}
    if len(schemas) > 1:
        return {"application/json": {"schema": {"anyOf": [*schemas.values()]}, "examples": values}}
    ((name, schema),) = schemas.items()
    return {"application/json": {"schema": schema, "example": values[name]["value"]}}


def _name(example: Example) -> str:
    return type(example[0] if isinstance(example, list) else example).__name__


def _schema(example: Example) -> JsonObject:
    pointer = reference("schemas", _name(example))
    return {"type": "array", "items": pointer} if isinstance(example, list) else pointer


def responses(
    errors: Iterable[type[Exception]], *, needs_key: bool, error_member: bool
) -> JsonObject:
    """All errors of an operation, by status: these, and those of any request.

    Args:
        errors: the domain errors of the operation.
        needs_key: whether it may be refused for want of a key.
        error_member: whether its clients read an error as one member, as ``problems`` says.
    """
    anyway = {*_ANY_REQUEST, Unauthorized} if needs_key else {*_ANY_REQUEST}
    found = {status: _shared(status, error_member) for status in MALFORMED}
    for status, kinds in _by_status({*errors, *anyway}).items():
        shared = anyway.issuperset(kinds)
        found[status] = (
            _shared(status, error_member) if shared else _refusal(status, kinds, error_member)
        )
    return {str(status): found[status] for status in sorted(found)}


def shared_responses() -> JsonObject:
    """The components that ``responses`` points at, and those that belong to no route."""
    components: JsonObject = {}
    for shape in (False, True):
        found = {status: _refusal(status, [], shape) for status in MALFORMED | UNROUTED}
        for status, kinds in _by_status({*_ANY_REQUEST, Unauthorized}).items():
            found[status] = _refusal(status, kinds, shape)
        found[405]["headers"]["Allow"] = reference("headers", "Allow")
        name = schema_of_errors(error_member=shape)
        components |= {f"{name}{status}": found[status] for status in sorted(found)}
    return components


def schema_of_errors(*, error_member: bool) -> str:
    """The name of the schema that errors have."""
    return (ErrorMessage if error_member else Problem).__name__


def _shared(status: int, error_member: bool) -> JsonObject:
    return reference("responses", f"{schema_of_errors(error_member=error_member)}{status}")


def _by_status(errors: Iterable[type[Exception]]) -> dict[int, list[type[Exception]]]:
    found: dict[int, list[type[Exception]]] = {}
    for error in sorted(errors, key=lambda error: KINDS[error].slug):
        found.setdefault(KINDS[error].status, []).append(error)
    return found


def _refusal(status: int, errors: Sequence[type[Exception]], error_member: bool) -> JsonObject:
    problems = {
        KINDS[error].slug: problem_of(error(examples.DETAILS[error]), examples.REQUEST_ID)
        for error in errors
    }
    titles = [f"`{name}`: {problem.title}" for name, problem in problems.items()]
    plain = (MALFORMED | UNROUTED).get(status)
    if plain:
        titles.append(plain)
        problems["about-blank"] = problem_of_status(status, plain, examples.REQUEST_ID)
    bodies = {
        name: problem_body(problem, error_member=error_member) for name, problem in problems.items()
    }
    shown = {name: {"value": msgspec.json.decode(body)} for name, (_, body) in bodies.items()}
    (media_type,) = {media_type for media_type, _ in bodies.values()}
    schema = reference("schemas", schema_of_errors(error_member=error_member))
    described = answer("; ".join(titles), {media_type: {"schema": schema, "examples": shown}})
    for problem in problems.values():
        names = sorted(problem_headers(problem))
        described["headers"] |= {name: reference("headers", name) for name in names}
    return described
