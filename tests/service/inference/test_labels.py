"""Labels are moved in one step, noted, and moved back."""

from pathlib import Path

import pytest

from service.inference.errors import LabelError
from service.inference.labels import LOG, last_target, move_label
from service.inference.layout import ModelLayout, read_model_layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "m.onnx").write_bytes(b"x")
    return tmp_path


def layout(folder: Path) -> ModelLayout:
    return read_model_layout(folder)


def test_a_label_is_a_relative_link_and_moves(folder: Path) -> None:
    assert move_label(layout(folder), "stable", 1) is None
    assert (folder / "stable").readlink() == Path("1")
    assert move_label(layout(folder), "stable", 2) == 1
    assert layout(folder).labels == {"stable": 2}
    assert {file.name for file in folder.iterdir()} == {"1", "2", "3", "stable", LOG}
    lines = [line.split() for line in (folder / LOG).read_text().splitlines()]
    assert [line[1:] for line in lines] == [["stable", "-", "1"], ["stable", "1", "2"]]


def test_a_link_has_the_name_of_the_folder(folder: Path) -> None:
    (folder / "3").rename(folder / "0003")
    move_label(layout(folder), "stable", 3)
    assert (folder / "stable").readlink() == Path("0003")
    assert layout(folder).labels == {"stable": 3}


def test_it_moves_where_it_is(folder: Path) -> None:
    file = folder / "labels.json"
    file.write_text('{"stable": 1}')
    (folder / "canary").symlink_to("2")
    move_label(layout(folder), "stable", 3)
    move_label(layout(folder), "canary", 3)
    move_label(layout(folder), "next", 2)
    assert file.read_text() == '{"next":2,"stable":3}\n'
    assert not (folder / "next").is_symlink()
    assert layout(folder).labels == {"canary": 3, "next": 2, "stable": 3}
    assert not list(folder.glob(".*.new"))


def test_where_the_file_system_has_no_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    move_label(layout(folder), "stable", 2)
    assert (folder / "labels.json").read_text() == '{"stable":2}\n'


def test_what_a_killed_command_left_is_no_obstacle(folder: Path) -> None:
    (folder / ".stable.new").symlink_to("3")
    move_label(layout(folder), "stable", 2)
    assert layout(folder).labels == {"stable": 2}


def test_rolling_back_goes_to_the_target_before_and_back_again(folder: Path) -> None:
    for number in (1, 2, 3):
        move_label(layout(folder), "stable", number)
        move_label(layout(folder), "canary", 1)
    assert last_target(layout(folder), "stable") == 2
    move_label(layout(folder), "stable", 2)
    assert last_target(layout(folder), "stable") == 3
    with pytest.raises(LabelError, match=r"'canary' of .* has led to no other version"):
        last_target(layout(folder), "canary")


def test_a_move_by_hand_is_rolled_back_to_what_was_noted_last(folder: Path) -> None:
    move_label(layout(folder), "stable", 1)
    (folder / "stable").unlink()
    (folder / "stable").symlink_to("2")
    assert last_target(layout(folder), "stable") == 1


@pytest.mark.parametrize(
    ("label", "number", "told"),
    [
        ("stable", 7, "has no version 7: there are 1, 2, 3"),
        ("12", 1, "'12' is no label"),
        ("../x", 1, "is no label"),
        (".x", 1, "is no label"),
        ("", 1, "is no label"),
        ("3x y", 1, "is no label"),
        ("dir", 1, "cannot be moved: Is a directory"),
    ],
)
def test_what_cannot_be(folder: Path, label: str, number: int, told: str) -> None:
    (folder / "dir").mkdir()
    with pytest.raises(LabelError, match=told):
        move_label(layout(folder), label, number)
    assert not layout(folder).labels


def test_a_move_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a line that a rollback would follow, nor a draft."""
    for number in (1, 2):
        move_label(layout(folder), "stable", number)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "replace", refuse)
        with pytest.raises(LabelError, match=r"'stable' of .* cannot be moved: No space left"):
            move_label(layout(folder), "stable", 3)
        (folder / "labels.json").write_text("{}")
        with pytest.raises(LabelError, match=r"'canary' of .* cannot be moved: No space left"):
            move_label(layout(folder), "canary", 3)
    assert not list(folder.glob(".*.new"))
    assert last_target(layout(folder), "stable") == 1
    with pytest.raises(LabelError, match="has led to no other"):
        last_target(layout(folder), "canary")


def test_what_is_noted_is_where_the_label_led_when_it_moved(folder: Path) -> None:
    move_label(layout(folder), "stable", 1)
    before = layout(folder)
    move_label(layout(folder), "stable", 2)  # by another command, meanwhile
    assert move_label(before, "stable", 3) == 2
    assert (folder / LOG).read_text().endswith(" stable 2 3\n")


def test_a_label_at_two_places_is_not_moved(folder: Path) -> None:
    (folder / "labels.json").write_text('{"stable": 1}')
    (folder / "stable").symlink_to("1")
    with pytest.raises(LabelError, match=r"both a link and in labels\.json: remove one"):
        move_label(layout(folder), "stable", 2)
    assert not (folder / LOG).read_text()


def test_one_file_has_no_labels(folder: Path) -> None:
    with pytest.raises(LabelError, match=r"no folders of versions to label: .* 1/model\.onnx"):
        move_label(layout(folder / "1"), "stable", 1)


def test_no_rights_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may do everything, so the system's answer is played."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LabelError, match=r"'stable' of .* cannot be moved: Permission denied"):
        move_label(layout(folder), "stable", 2)
