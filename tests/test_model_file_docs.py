"""docs/model-file.md describes the card that the code reads, field by field."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from service.inference.classifier import Classifier
from service.inference.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelCard

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/model-file.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs/training.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def fields_of(struct: Any, prefix: str = "") -> Iterator[str]:
    """Names of a struct's fields, dotted, with those of structs inside it or in its mappings."""
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        yield name
        for inner in (field.type, *get_args(field.type)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from fields_of(inner, f"{name}.")


def test_every_field_of_the_card_is_described_and_no_other() -> None:
    assert first_cells(section("The card")) == list(fields_of(ModelCard))


def test_the_pages_names_are_those_of_the_contract() -> None:
    assert f"`{METADATA_KEY}`" in section("The card")
    assert f'"{METADATA_KEY}"' in section("Reading a card")
    assert f"| input | `{INPUT_NAME}` |" in section("The graph")
    assert f"| output | `{OUTPUT_NAME}` |" in section("The graph")


@pytest.fixture(scope="module")
def default_card() -> ModelCard:
    return Classifier.load(ROOT / "models/default.onnx").card


def test_the_readme_says_what_the_default_model_knows(default_card: ModelCard) -> None:
    first_lines = README.partition("\n## ")[0].replace("\n", " ")
    *others, last = default_card.labels
    assert f"{', '.join(others)} and {last}" in first_lines
    assert f"{default_card.figures.accuracy:.2%}".replace("%", " %") in first_lines


def test_the_default_models_figures_are_those_of_its_card(default_card: ModelCard) -> None:
    table = TRAINING.partition("\n## The default model\n")[2].partition("\n## ")[0]
    figures = default_card.figures
    for share in (figures.accuracy, figures.calibration_error):
        assert f"{share:.2%}".replace("%", " %") in table
    assert f"temperature {default_card.temperature:.3f}" in table
