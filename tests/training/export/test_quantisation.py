import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.inference.classifier import Classifier
from training.calibration import fit_temperature
from training.config import TrainConfig
from training.data.dataset import Dataset
from training.data.loading import load
from training.errors import ExportError
from training.export import model_file, quantisation
from training.export.quantisation import Comparison, compare, why_not
from training.fitting.loop import fit

GOOD = Comparison("validation", 1000, 0.899, 0.9, 0.995, 0.5, 1.0)


@pytest.fixture
def small(config: TrainConfig) -> TrainConfig:
    """A tiny staged network, a little trained, so that its answers differ."""
    return dataclasses.replace(
        config,
        architecture="small",
        width=0.1,
        learning_rate=0.1,
        epochs=3,
        quantize=True,
    )


@pytest.fixture
def dataset(small: TrainConfig) -> Dataset:
    return load(small)


@pytest.fixture
def welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused: what a tiny network gains by integers says nothing."""
    for name, value in (("LARGEST_LOSS", 1), ("LEAST_AGREEMENT", 0), ("LEAST_SPEEDUP", 0)):
        monkeypatch.setattr(quantisation, name, value)
    monkeypatch.setattr(quantisation, "TIMED", 3)


@pytest.mark.usefixtures("welcome")
def test_a_quantised_file_is_integers_with_figures_of_its_own(
    small: TrainConfig, dataset: Dataset
) -> None:
    model = fit(small, dataset)

    card = model_file.export(model, 1.0, small, dataset)

    classifier = Classifier.load(small.output)
    assert classifier.card == card
    graph = onnx.load(small.output).graph
    filters = [tensor for tensor in graph.initializer if len(tensor.dims) == 4]
    kinds = sorted(tensor.data_type for tensor in filters)
    assert len(kinds) > 2
    assert kinds == [onnx.TensorProto.FLOAT, *[onnx.TensorProto.INT8] * (len(kinds) - 1)]
    scales = [numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 1]
    floats = [scale for scale in scales if scale.dtype == np.float32]
    assert any(len(np.unique(scale)) > 1 for scale in floats)  # one for each channel
    assert graph.node[-1].op_type == "Softmax"
    answers = classifier.predict(dataset.test.images[:])
    assert card.figures.accuracy == (answers.argmax(axis=1) == dataset.test.targets).mean()
    assert 0 < (card.figures.parity or 0) < 0.2


@pytest.mark.usefixtures("welcome")
def test_its_temperature_is_fitted_to_its_own_answers(small: TrainConfig, dataset: Dataset) -> None:
    model = fit(small, dataset)
    card = model_file.export(model, 3.0, small, dataset)

    probabilities = Classifier.load(small.output).predict(dataset.validation.images[:])

    logits = np.log(probabilities) * card.temperature
    assert card.temperature == pytest.approx(
        fit_temperature(logits, dataset.validation.targets), rel=1e-3
    )


def test_what_is_refused_is_not_written(
    small: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "LEAST_SPEEDUP", 1e9)
    monkeypatch.setattr(quantisation, "TIMED", 3)
    model = fit(small, dataset)
    small.output.write_bytes(b"the model before")

    with pytest.raises(
        ExportError, match=r"refused, as .*times as fast: on 3 validation images .* ms"
    ):
        model_file.export(model, 1.0, small, dataset)

    assert small.output.read_bytes() == b"the model before"
    assert [path for path in small.output.parent.iterdir() if path.is_file()] == [small.output]


@pytest.mark.parametrize("bad", ["test", "validation"])
@pytest.mark.usefixtures("welcome")
def test_only_the_validation_images_decide(
    small: TrainConfig,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bad: str,
) -> None:
    refused = bad == "validation"

    def worse(split: str, *rest: Any) -> Comparison:
        found = compare(split, *rest)
        return dataclasses.replace(found, agreement=-1.0) if split == bad else found

    monkeypatch.setattr(model_file, "compare", worse)
    model = fit(small, dataset)

    with pytest.raises(ExportError, match="validation") if refused else nullcontext():
        model_file.export(model, 1.0, small, dataset)

    assert small.output.exists() is not refused
    assert ("quantised: on 6 test images" in capsys.readouterr().err) is not refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accuracy": 0.8969}, "more than 0.3 points"),
        ({"agreement": 0.989}, "fewer than 99% of labels agree"),
        ({"milliseconds": 0.95}, "not 1.1 times as fast"),
        ({"accuracy": float("nan")}, "more than 0.3 points"),
    ],
)
def test_each_reason_is_named(changes: dict[str, float], reason: str) -> None:
    found = why_not(dataclasses.replace(GOOD, **changes))  # type: ignore[arg-type]

    assert reason in found
    assert " and " not in found


def test_what_is_as_good_and_faster_is_welcome() -> None:
    assert not why_not(GOOD)
    assert not why_not(dataclasses.replace(GOOD, accuracy=0.91, milliseconds=0.2))


def test_a_single_image_of_few_is_no_reason() -> None:
    few = Comparison("validation", 50, 0.88, 0.9, 0.98, 0.5, 1.0)

    assert not why_not(few)
    assert why_not(dataclasses.replace(few, accuracy=0.86, agreement=0.96)).count(" and ") == 1


def test_several_reasons_are_all_named() -> None:
    bad = dataclasses.replace(GOOD, accuracy=0.5, agreement=0.5, milliseconds=2.0)

    assert why_not(bad).count(" and ") == 2


def test_answers_are_compared_label_by_label() -> None:
    exact = np.eye(4, dtype=np.float32)
    other = exact[[0, 1, 3, 3]]
    targets = np.array([0, 1, 3, 0])

    found = compare("test", targets, other, exact, (1.0, 3.0))

    assert (found.accuracy, found.float_accuracy, found.agreement) == (0.75, 0.5, 0.75)
    assert found.loss == -0.25
    assert found.speedup == 3
    assert "on 4 test images accuracy 0.7500 instead of 0.5000, 75.00% of labels" in str(found)


def test_times_are_of_each_file(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "TIMED", 5)
    classifier = Classifier.load(tiny_model)

    times = quantisation.milliseconds(classifier, classifier)

    assert len(times) == 2
    assert all(0 < time < 1000 for time in times)
