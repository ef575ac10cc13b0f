"""Which file a path stands for, and whether it has changed."""

import os
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from service.inference.errors import ModelNotFound
from service.inference.model_files import model_file, model_size, model_state
from tests.tiny_model import make_card, write_model


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(name.encode())


def test_a_file_stands_for_itself_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path, "model.bin")
    assert model_file(tmp_path / "model.bin") == tmp_path / "model.bin"
    assert model_file(tmp_path / "nothing") == tmp_path / "nothing"


@pytest.mark.parametrize("name", ["model.onnx", "MODEL.ONNX"])
def test_a_folder_stands_for_its_only_model(tmp_path: Path, name: str) -> None:
    """Beside what else lies there, and what systems and copying leave behind."""
    put(tmp_path, name, "card.json", "._model.onnx", ".model.onnx.new", "model.onnx.part")
    (tmp_path / "old.onnx").mkdir()
    assert model_file(tmp_path) == tmp_path / name
    assert model_size(tmp_path) == len(name)


def test_a_folder_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    """A projected volume: links into a folder that is itself a link."""
    (tmp_path / "..2026").mkdir()
    put(tmp_path / "..2026", "pets.onnx")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "pets.onnx").symlink_to("..data/pets.onnx")
    assert model_file(tmp_path) == tmp_path / "pets.onnx"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "has no .onnx file: it is empty"),
        (("saved_model.pb", "a.keras"), "has no .onnx file: there is a.keras, saved_model.pb"),
        (("b.onnx", "a.onnx"), r"has 2 .onnx files \(a.onnx, b.onnx\): leave one there"),
        (tuple(f"{n}.onnx" for n in range(9)), r"has 9 .* \(0.onnx, .*, 4.onnx, …\)"),
    ],
)
def test_none_or_several_are_said_in_one_line(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    put(tmp_path, *names)
    with pytest.raises(ModelNotFound, match=said) as caught:
        model_file(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert model_size(tmp_path) == 0


def test_the_state_tells_what_a_path_holds(tmp_path: Path) -> None:
    assert model_state(tmp_path) is None
    put(tmp_path, "a.onnx")
    first = model_state(tmp_path)
    assert first
    assert first == model_state(tmp_path / "a.onnx")
    put(tmp_path, "notes.txt", ".b.onnx")
    assert model_state(tmp_path) == first
    os.utime(tmp_path / "a.onnx", (1, 1))
    assert model_state(tmp_path) != first
    put(tmp_path, "b.onnx")
    assert len(model_state(tmp_path) or ()) == 2


def test_a_classifier_is_loaded_from_a_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.onnx", make_card())
    assert Classifier.load(tmp_path).card.name == "tiny"
