"""The description of the API: complete, true, and valid in itself."""

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from service.__main__ import main
from service.http.app import create_app
from service.http.openapi.document import document
from service.inference.classifier import Classifier
from service.runtime.shared_bytes import SharedBytes
from service.serving.auth import Auth
from service.serving.errors import ClientDisconnected, Unauthorized
from service.serving.problems import KINDS
from service.settings import Settings
from tests.described import IMPLICIT

JsonObject = dict[str, Any]


def described(**settings: Any) -> JsonObject:
    found: JsonObject = json.loads(msgspec.json.encode(document(Settings(**settings))))
    return found


def operations(whole: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def everything(value: Any) -> Iterator[JsonObject]:
    """All objects in a value."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from everything(inner)


def test_routes_and_methods_are_all_described_and_no_others(tiny_classifier: Classifier) -> None:
    rules = create_app(Settings(), tiny_classifier).url_map.iter_rules()
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {*IMPLICIT}
    }
    assert {(method, path) for method, path, _ in operations(described())} == routes


def test_problems_are_all_described_with_their_status() -> None:
    """But for the one that no client is ever told."""
    whole = described()
    answers = [o["responses"] for _, _, o in operations(whole)]
    answers += [{name[-3:]: value for name, value in whole["components"]["responses"].items()}]
    found = {
        (int(status), name)
        for responses in answers
        for status, response in responses.items()
        for content in response.get("content", {}).values()
        for name in content.get("examples", {})
        if int(status) >= 400 and name != "about-blank"
    }
    kinds = {(k.status, k.slug) for e, k in KINDS.items() if e is not ClientDisconnected}
    assert found == kinds


def test_pointers_lead_somewhere_and_nothing_lies_there_unused() -> None:
    whole = described()
    pointers = {one["$ref"] for one in everything(whole) if "$ref" in one}
    components = {
        f"#/components/{kind}/{name}"
        for kind, named in whole["components"].items()
        for name in named
        if kind != "securitySchemes"
    }
    of_no_route = {
        f"#/components/responses/{shape}{status}"
        for shape in ("Problem", "ErrorMessage")
        for status in (404, 405)
    }
    assert components - of_no_route == pointers


def test_examples_are_what_their_schemas_say() -> None:
    whole = described()
    of_schemas = {"components": {**whole["components"], "schemas": {}}}
    shown = [
        one for one in everything({**whole, **of_schemas}) if isinstance(one.get("schema"), dict)
    ]
    count = 0
    for one in shown:
        examples = [example["value"] for example in one.get("examples", {}).values()]
        examples += [one["example"]] if "example" in one else []
        for example in examples:
            Draft202012Validator({**one["schema"], "components": whole["components"]}).validate(
                example
            )
            count += 1
    assert count > 40


def test_names_of_operations_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in operations(described())]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("has_keys", [False, True])
def test_a_key_is_asked_for_where_the_service_asks_for_one(has_keys: bool) -> None:
    whole = described(**({"api_keys": ("a-key",)} if has_keys else {}))
    assert ({} in whole["security"]) is not has_keys
    assert [one for one in whole["security"] if one] == [{"bearer": []}, {"key": []}]
    is_open = {path: operation.get("security") == [] for _, path, operation in operations(whole)}
    auth = Auth(Settings(api_keys=("a-key",)), SharedBytes())
    for path, needs_none in is_open.items():
        with nullcontext() if needs_none else pytest.raises(Unauthorized):
            auth.check(path, {})
    for _, path, operation in operations(whole):
        assert ("401" in operation["responses"]) is not is_open[path]


def test_it_follows_the_settings() -> None:
    whole = described(
        formats=("JPEG", "TIFF"), max_batch_files=7, open_model=True, open_metrics=False
    )
    content = whole["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert [name for name in content if name.startswith("image/")] == ["image/jpeg", "image/tiff"]
    form = whole["paths"]["/predict/batch"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["properties"]["images"]["maxItems"] == 7
    assert whole["paths"]["/model"]["get"]["security"] == []
    assert "security" not in whole["paths"]["/metrics"]["get"]


def test_the_command_prints_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELSERVE_MAX_BATCH_FILES", "7")
    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == described(max_batch_files=7)
    monkeypatch.setenv("LABELSERVE_MAX_BATCH_FILES", "many")
    assert main(["openapi"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("LABELSERVE_MAX_BATCH_FILES='many'")
