"""Issue 17, 25: links that are not followed are counted and named, and fatal when strict."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from tests.training.conftest import fill_folder, image_file
from training.cli import main
from training.data.folders import list_images
from training.errors import DataError
from training.export.answers import ask

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


def dangling_file(folder: Path) -> str:
    (folder / "red" / "lost.png").symlink_to(folder / "moved" / "lost.png")
    return f"{folder}/red/lost.png is a link that leads nowhere"


def dangling_label(folder: Path) -> str:
    (folder / "white").symlink_to(folder.parent / "unmounted", target_is_directory=True)
    return f"{folder}/white is a link that leads nowhere"


def linked_folder(folder: Path) -> str:
    fill_folder(folder.parent / "elsewhere", images=1, labels=("red",))
    (folder / "red" / "more").symlink_to(folder.parent / "elsewhere" / "red")
    return f"{folder}/red/more is a link to a folder, inside a label's"


def circle(folder: Path) -> str:
    (folder / "red" / "self.png").symlink_to(folder / "red" / "self.png")
    return f"{folder}/red/self.png is a link that leads nowhere"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "red" / "camera.jpg")
    return f"{folder}/red/camera.jpg is neither file nor folder"


@pytest.mark.parametrize("make", [dangling_file, dangling_label, linked_folder, circle, pipe])
def test_what_is_not_followed_is_named_and_fatal_when_strict(
    tmp_path: Path,
    tiny_classifier: Classifier,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    line = make(folder)

    assert len(list_images(folder).paths) == 9
    said = capsys.readouterr().err.splitlines()
    assert f"{folder}: links and other entries not followed: 1:" in said
    assert f"  {line}" in said

    with pytest.raises(DataError, match=r"\(--strict; of this kind: 1\)") as caught:
        list_images(folder, strict=True)
    assert str(caught.value).startswith(line)
    with pytest.raises(DataError, match="--strict"):
        ask(tiny_classifier, folder, strict=True)


def test_the_command_stops_when_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    line = dangling_file(folder)
    words = ["--data", str(folder), "--output", str(tmp_path / "m.onnx"), "--strict"]

    assert main(words) == 1

    assert f"error: {line} (--strict; of this kind: 1)" in capsys.readouterr().err


def test_a_label_of_dangling_links_alone_says_so(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    for path in [*(folder / "red").iterdir()]:
        path.unlink()
        path.symlink_to(tmp_path / "unmounted" / path.name)

    with pytest.raises(DataError, match=r"red has no images .*0000\.jpg is a link that leads now"):
        list_images(folder)


def test_links_to_images_and_to_labels_are_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=2, labels=("blue", "green"))
    fill_folder(tmp_path / "disk", images=2, labels=("red",))
    (folder / "red").symlink_to(tmp_path / "disk" / "red", target_is_directory=True)
    (tmp_path / "one.png").write_bytes(image_file("blue", 9))
    (folder / "blue" / "one.png").symlink_to(tmp_path / "one.png")

    listing = list_images(folder, strict=True)

    assert [*listing.targets] == [0, 0, 0, 1, 1, 2, 2]
    assert capsys.readouterr().err == ""
