"""What a model path holds: which folders are versions, which are models, and where labels lead."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from service.inference.errors import ModelNotFound
from service.inference.layout import ONLY_VERSION, read_layout, read_model_layout
from service.inference.model_files import model_file, model_state, read_model
from tests.tiny_model import make_card, write_model


def make(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")
    return folder


def test_a_file_and_a_folder_with_one_are_one_version(tmp_path: Path) -> None:
    make(tmp_path, "m.onnx", "2/m.onnx", ".draft.onnx")
    for path in (tmp_path / "m.onnx", tmp_path):
        (layout,) = read_layout(path)
        assert (layout.name, layout.versions) == ("", {ONLY_VERSION: path})
        assert not layout.labels


def test_folders_with_numbers_are_versions(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "10/m.onnx", "2/m.onnx", "0/m.onnx", "old/m.onnx", "3")
    (layout,) = read_layout(tmp_path)
    assert layout.versions == {n: tmp_path / str(n) for n in (1, 2, 10)}
    assert layout.default == 10
    assert layout.order == (10, 2, 1)


def test_numbers_may_be_times_and_begin_with_zeros(tmp_path: Path) -> None:
    make(tmp_path, "20261127021500/m.onnx", "00000123/m.onnx")
    (tmp_path / "stable").symlink_to("00000123")
    (layout,) = read_layout(tmp_path)
    assert set(layout.versions) == {20261127021500, 123}
    assert layout.labels == {"stable": 123}


def test_labels_are_links_to_versions(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx", "3/m.onnx", "4/m.onnx")
    (tmp_path / "stable").symlink_to("1")
    (tmp_path / "canary").symlink_to(tmp_path / "2")
    (tmp_path / "newest").symlink_to("canary")
    (tmp_path / ".hidden").symlink_to("1")
    (layout,) = read_layout(tmp_path)
    assert layout.labels == {"stable": 1, "canary": 2, "newest": 2}
    assert layout.default == 1
    assert layout.order == (1, 2, 4, 3)
    assert not layout.problems


def test_labels_are_in_a_file_where_there_are_no_links(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx")
    (tmp_path / "labels.json").write_text('{"stable": 1, "canary": 2}')
    (tmp_path / "canary").symlink_to("2")  # both may say the same
    (layout,) = read_layout(tmp_path)
    assert layout.labels == {"stable": 1, "canary": 2}
    assert not layout.problems


def test_a_mounted_config_map(tmp_path: Path) -> None:
    """Everything that is seen is a link into a hidden folder, which is itself one."""
    make(tmp_path, "..2026/1/m.onnx", "..2026/2/m.onnx", "..2026/labels.json")
    (tmp_path / "..2026" / "labels.json").write_text('{"stable": 1}')
    (tmp_path / "..data").symlink_to("..2026")
    for name in ("1", "2", "labels.json"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    (layout,) = read_layout(tmp_path)
    assert set(layout.versions) == {1, 2}
    assert layout.labels == {"stable": 1}
    assert not layout.problems


@pytest.mark.parametrize(
    ("links", "written", "told"),
    [
        ({"stable": "7"}, None, "'stable' of .* leads nowhere by its link: .* versions 1, 2"),
        ({"stable": "old"}, None, "'stable' of .* leads nowhere by its link"),
        ({}, {"stable": 7}, "'stable' of .* leads nowhere by labels.json, which says 7"),
        ({"stable": "1"}, {"stable": 2}, "leads to 1 by its link and to 2 by labels.json: leave"),
        ({"stable": "1"}, "{", r"labels.json cannot be used, {\"stable\": 1} is expected"),
        ({}, {"stable": "1"}, "labels.json cannot be used, .*: Expected `int`, got `str`"),
    ],
)
def test_a_default_that_is_not_known(
    tmp_path: Path, links: dict[str, str], written: object, told: str
) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx", "old/m.onnx")
    for label, target in links.items():
        (tmp_path / label).symlink_to(target)
    if written is not None:
        text = written if isinstance(written, str) else json.dumps(written)
        (tmp_path / "labels.json").write_text(text)
    (layout,) = read_layout(tmp_path)
    assert layout.labels == {"stable": None}
    assert layout.default is None  # and not the highest
    (problem,) = layout.problems
    assert re.search(told, problem)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a folder that one may not look into; root may, so the answer is played."""
    (tmp_path / ".locked").mkdir()

    def played(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def stat(path: str | Path, **options: object) -> os.stat_result:
            if ".locked" in os.path.realpath(path) and options.get("follow_symlinks", True):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path, **options)

        return stat

    monkeypatch.setattr(os, "stat", played(os.stat))
    return ".locked/x"


def test_an_entry_that_one_may_not_look_at_leaves_the_others_alone(
    tmp_path: Path, locked: str
) -> None:
    make(tmp_path, "pets/1/m.onnx", "pets/2/m.onnx")
    for link in ("other", "pets/3", "pets/canary", "pets/1/n.onnx"):
        (tmp_path / link).symlink_to(tmp_path / locked)
    (tmp_path / "pets" / "stable").symlink_to("2")
    (pets,) = read_layout(tmp_path)
    assert set(pets.versions) == {1, 2}
    assert pets.labels == {"canary": None, "stable": 2}
    assert model_state(pets.versions[1]) is None
    (lost,) = read_layout(tmp_path / "other")
    with pytest.raises(ModelNotFound, match="cannot be read: "):
        read_model(model_file(lost.path))


def test_a_link_that_was_copied_as_a_folder_is_no_label(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx", "stable/m.onnx")
    (layout,) = read_layout(tmp_path)
    assert layout.labels == {"stable": None}
    assert "stable is a folder and no link to a version" in layout.problems[0]
    (tmp_path / "labels.json").write_text('{"stable": 1}')
    assert read_layout(tmp_path)[0].default == 1


def test_a_number_is_no_label(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx")
    (tmp_path / "labels.json").write_text('{"2": 1}')
    (layout,) = read_layout(tmp_path)
    assert layout.labels == {"2": None}
    assert len(layout.problems) == 1


def test_a_folder_of_models(tmp_path: Path) -> None:
    make(tmp_path, "pets/1/m.onnx", "pets/2/m.onnx", "signs/m.onnx", "none/readme", "a b/m.onnx")
    make(tmp_path, "two/a.onnx", "two/b.onnx")
    (tmp_path / "pets" / "stable").symlink_to("1")
    pets, signs, two = read_layout(tmp_path)
    assert (pets.name, set(pets.versions), pets.default) == ("pets", {1, 2}, 1)
    assert (signs.name, set(signs.versions)) == ("signs", {1})
    assert (two.name, set(two.versions)) == ("two", set())
    assert "2 .onnx files (a.onnx, b.onnx)" in two.problems[0]
    with pytest.raises(ModelNotFound, match=r"has several models, name one of them: .*/pets, "):
        read_model_layout(tmp_path)
    assert read_model_layout(tmp_path / "pets").default == 1


def test_what_is_opened_of_a_folder_of_versions_is_the_default(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write_model(tmp_path / str(number) / "m.onnx", make_card(version=f"card {number}"))
    assert Classifier.load(tmp_path).card.version == "card 2"
    (tmp_path / "stable").symlink_to("1")
    assert Classifier.load(tmp_path).card.version == "card 1"
    (tmp_path / "stable").unlink()
    (tmp_path / "stable").symlink_to("7")
    with pytest.raises(ModelNotFound, match=r"'stable' of .* leads nowhere"):
        Classifier.load(tmp_path)


def test_a_folder_without_any_says_what_there_is(tmp_path: Path) -> None:
    make(tmp_path, "cats/readme", "notes.txt")
    with pytest.raises(ModelNotFound, match=r"has no \.onnx file: there is cats, notes\.txt"):
        read_layout(tmp_path)


def test_sizes_are_those_of_what_is_wanted(tmp_path: Path) -> None:
    make(tmp_path, "1/m.onnx", "2/m.onnx", "3/m.onnx")
    (tmp_path / "2" / "m.onnx").write_bytes(b"xx")
    (tmp_path / "3" / "m.onnx").write_bytes(b"xxx")
    assert read_model_layout(tmp_path).sizes(labelled=True) == (3,)
    (tmp_path / "stable").symlink_to("1")
    (tmp_path / "canary").symlink_to("2")
    layout = read_model_layout(tmp_path)
    assert layout.sizes(labelled=False) == (1,)
    assert layout.sizes(labelled=True) == (1, 2)
