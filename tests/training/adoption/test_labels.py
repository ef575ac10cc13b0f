"""Labels as people and exporters write them."""

import json
from pathlib import Path

import pytest

from training.adoption import labels
from training.errors import ConfigError

ANIMALS = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    "text",
    [
        "ant\nbee\ncat\n",
        "\ufeffant\r\nbee\r\n  cat \r\n\r\n",
        "0 ant\n1 bee\n2 cat",
        "0: ant\n1: bee\n2: cat",
        "0,ant\n1,bee\n2,cat",
        "n02219486 ant\nn02206856 bee\nn02121808 cat",
        json.dumps(ANIMALS),
        json.dumps({"0": "ant", "2": "cat", "1": "bee"}),
        json.dumps({"bee": 1, "ant": 0, "cat": 2}),
        json.dumps({"id2label": {"0": "ant", "1": "bee", "2": "cat"}, "model_type": "resnet"}),
        json.dumps({str(i): [f"n0000000{i}", name] for i, name in enumerate(ANIMALS)}),
    ],
)
def test_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text, "utf-8", newline="")
    assert labels.from_option(str(path)) == ANIMALS


@pytest.mark.parametrize(
    "text", ['["ant", "bee", "cat"]', ' {"0":"ant","1":"bee","2":"cat"}', "ant, bee,cat"]
)
def test_the_option_itself(text: str) -> None:
    assert labels.from_option(text) == ANIMALS


def test_digits_are_labels_where_the_other_side_is_numbers() -> None:
    assert labels.from_value({"3": 0, "7": 1}) == ("3", "7")


def test_names_that_begin_with_numbers_stay(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("1 cent\n2 cents\n5 cents")
    assert labels.from_file(path) == ("1 cent", "2 cents", "5 cents")


def test_imagenet_is_there() -> None:
    found = labels.from_option("imagenet-1k")
    assert len(set(found)) == 1000
    assert found[0] == "tench"
    assert found[281] == "tabby"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "is no file"),
        ("[1, 2", "no list of labels"),
        ('{"0": "ant", "2": "bee"}', "0 to 1"),
        ("[]", "is needed"),
        ('{"0": {"name": "ant"}}', "neither text nor a number"),
    ],
)
def test_what_is_no_labels(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        labels.from_option(text)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"labels\.txt cannot be read"):
        labels.from_option(str(path))


def test_repeated_labels_are_told_apart() -> None:
    names = ("crane", "crane (2)", "kite", "crane")
    assert labels.told_apart(names) == (("crane", "crane (2)", "kite", "crane (3)"), ("crane",))


def test_an_empty_label_is_named() -> None:
    with pytest.raises(ConfigError, match="number 1 is empty"):
        labels.told_apart(("ant", "", "cat"))


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(" \n\n")
    with pytest.raises(ConfigError, match=r"labels\.txt is empty"):
        labels.from_option(str(path))
