"""A model that travels to the processes of Ray and of Spark."""

import pickle
import shutil
from pathlib import Path

import pytest

from service.batch.answers import answers
from service.batch.predictor import Predictor
from service.inference.classifier import Classifier, Selection
from service.inference.errors import ModelNotFound
from tests.images import encode, photograph
from tests.tiny_model import make_card, write_model

CONTENTS = [encode(photograph(1, 9, 9), "PNG"), b"no image", encode(photograph(2, 40, 30), "JPEG")]
NAMES = ["one", "none", "two"]


def arrived(predictor: Predictor) -> Predictor:
    """As in another process."""
    found: Predictor = pickle.loads(pickle.dumps(predictor))  # noqa: S301  our own
    return found


def test_its_answers_are_the_models(tiny_model: Path, tiny_classifier: Classifier) -> None:
    predictor = Predictor.load(tiny_model, Selection(top_k=2))
    expected = answers(tiny_classifier, CONTENTS, Selection(top_k=2))
    assert predictor.answers(NAMES, CONTENTS) == list(zip(NAMES, expected, strict=True))


def test_of_a_folder_of_versions_it_is_the_default(tmp_path: Path) -> None:
    """As of ``Classifier.load``, and of the plain command."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write_model(tmp_path / str(number) / "model.onnx", make_card(version=f"test-{number}"))
    assert Predictor.load(tmp_path).file == str(tmp_path / "2" / "model.onnx")
    (tmp_path / "labels.json").write_text('{"stable": 1}')
    assert Predictor.load(tmp_path).file == str(tmp_path / "1" / "model.onnx")


def test_it_answers_where_the_file_is_not(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    shutil.copy(tiny_model, file)
    predictor = Predictor.load(file)
    expected = predictor.answers(NAMES, CONTENTS)
    file.unlink()
    assert arrived(predictor).answers(NAMES, CONTENTS) == expected


def test_a_process_opens_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model.onnx", make_card(version="opened once"))
    predictor = Predictor.load(model)
    opened: list[int] = []
    open_model = Classifier.open

    def counting(data: bytes, path: str, *, threads: int) -> Classifier:
        opened.append(threads)
        return open_model(data, path, threads=threads)

    monkeypatch.setattr(Classifier, "open", counting)
    for _ in range(3):  # each task of Spark's brings it anew
        assert len(arrived(predictor).answers(NAMES, CONTENTS)) == 3
    assert opened == [1]


def test_a_model_that_cannot_be_used_does_not_travel(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Predictor.load(tmp_path / "none.onnx")
