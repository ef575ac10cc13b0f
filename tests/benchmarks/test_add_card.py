"""A bare model gets a card, and nothing else about it changes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from service.inference.classifier import Classifier
from service.inference.contract import METADATA_KEY, NOTHING_MEASURED
from tests.benchmarks.add_card import main
from tests.tiny_model import make_graph, write_model
from training.data.cifar10 import LABELS as CIFAR10_LABELS


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return write_model(tmp_path / "bare.onnx", None)


def test_the_card_is_all_that_changes(bare: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    assert main([str(bare), str(target), "--labels", "red,green,blue"]) == 0
    before, after = onnx.load(bare), onnx.load(target)
    assert [prop.key for prop in after.metadata_props] == [METADATA_KEY]
    del after.metadata_props[:]
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )


def test_the_service_opens_it_and_answers_the_same(bare: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    assert main([str(bare), str(target), "--labels", "red,green,blue"]) == 0
    classifier = Classifier.load(target)
    assert classifier.card.labels == ("red", "green", "blue")
    assert classifier.card.name == "bare"
    assert classifier.card.figures == NOTHING_MEASURED
    assert classifier.input_size == (8, 8)
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    (expected,) = ort.InferenceSession(bare).run(None, {"image": images})
    np.testing.assert_array_equal(classifier.predict(images), expected)


def test_other_metadata_stays_and_an_old_card_goes(tmp_path: Path) -> None:
    graph = make_graph(outputs=10)
    onnx.helper.set_model_props(graph, {"author": "somebody", METADATA_KEY: "old"})
    source, target = write_model(tmp_path / "m.onnx", None, graph), tmp_path / "out.onnx"
    assert main([str(source), str(target)]) == 0
    kept = {prop.key: prop.value for prop in onnx.load(target).metadata_props}
    assert kept["author"] == "somebody"
    assert Classifier.load(target).card.labels == CIFAR10_LABELS


@pytest.mark.parametrize(
    ("labels", "said"),
    [("a,b", "2 labels"), ("a,a,b", "repeated"), ("a", "the least")],
)
def test_labels_that_cannot_be_are_refused(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: str, said: str
) -> None:
    target = tmp_path / "out.onnx"
    assert main([str(bare), str(target), "--labels", labels]) == 1
    assert said in capsys.readouterr().err
    assert not target.exists()


def test_a_graph_without_the_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = make_graph()
    graph.graph.input[0].name = graph.graph.node[0].input[0] = "photo"
    source = write_model(tmp_path / "m.onnx", None, graph)
    assert main([str(source), str(tmp_path / "out.onnx"), "--labels", "r,g,b"]) == 1
    assert "image" in capsys.readouterr().err
