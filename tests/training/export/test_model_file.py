import dataclasses
import re
from pathlib import Path

import keras
import msgspec
import numpy as np
import onnx
import pytest

from service.inference.classifier import Classifier
from service.inference.contract import METADATA_KEY, Familiarity
from tests.training.conftest import TrainedModel
from training.config import TrainConfig
from training.data.dataset import Dataset
from training.data.loading import load
from training.errors import ExportError
from training.export import cards, familiarity, model_file
from training.fitting.state import start
from training.networks.inference import predict_logits


@pytest.fixture
def dataset(config: TrainConfig) -> Dataset:
    return load(config)


@pytest.fixture
def model(config: TrainConfig, dataset: Dataset) -> keras.Model:
    """A network with random weights: exporting does not care what was learned."""
    config.output.parent.mkdir(exist_ok=True)
    return start(config, dataset).model


def test_the_service_gives_the_probabilities_that_keras_gives(trained_model: TrainedModel) -> None:
    probabilities = Classifier.load(trained_model.path).predict(trained_model.images)

    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, trained_model.probabilities, atol=1e-5)
    # Answers that were all alike would agree with anything.
    assert np.ptp(probabilities, axis=0).max() > 0.01


def test_the_graph_takes_pixels_and_gives_probabilities(trained_model: TrainedModel) -> None:
    graph = onnx.load(trained_model.path).graph

    (image,), (probabilities,) = graph.input, graph.output
    assert [image.name, probabilities.name] == ["image", "probabilities"]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probabilities.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dims == ["batch", 32, 32, 3]
    dims = [d.dim_param or d.dim_value for d in probabilities.type.tensor_type.shape.dim]
    assert dims == ["batch", 3]
    assert graph.node[-1].op_type == "Softmax"


def test_any_number_of_images_may_be_asked(trained_model: TrainedModel) -> None:
    classifier = Classifier.load(trained_model.path)

    one_by_one = [classifier.predict(trained_model.images[i : i + 1])[0] for i in range(9)]

    np.testing.assert_allclose(one_by_one, classifier.predict(trained_model.images), atol=1e-6)
    np.testing.assert_allclose(np.sum(one_by_one, axis=1), 1, atol=1e-5)


def test_the_card_tells_what_was_done(
    model: keras.Model, config: TrainConfig, dataset: Dataset
) -> None:
    config = dataclasses.replace(config, resize="crop", data_licence="CC0")
    dataset = load(config)

    card = model_file.export(model, 1.5, config, dataset)

    assert card == Classifier.load(config.output).card
    assert card.name == "model"
    assert re.fullmatch(r"20\d\d\.\d\d\.\d\d-[0-9a-f]{8}", card.version)
    assert card.labels == ("blue", "green", "red")
    assert (card.input.height, card.input.width, card.input.resize) == (20, 16, "crop")
    assert card.temperature == 1.5
    assert card.training_data.licence == "CC0"
    assert card.training_data.images == {"train": 27, "validation": 3, "test": 6}
    assert card.figures.images == 6
    assert {row.support for row in card.figures.per_label.values()} == {2}
    assert 0 < (card.figures.parity or 0) < model_file.PARITY_LIMIT
    assert card.provenance.created.endswith("+00:00")
    assert card.provenance.libraries["keras"] == keras.__version__
    assert config.output.parent.parent.name not in card.to_json()


def test_the_temperature_is_in_the_graph(
    model: keras.Model, config: TrainConfig, dataset: Dataset
) -> None:
    model_file.export(model, 2.0, config, dataset)

    probabilities = Classifier.load(config.output).predict(dataset.test.images[:])

    logits = predict_logits(model, dataset.test.images) / 2.0
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        probabilities, exponents / exponents.sum(axis=1, keepdims=True), atol=1e-5
    )


def test_familiarity_is_made_where_images_are_held_back(
    model: keras.Model,
    config: TrainConfig,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without = model_file.export(model, 1.0, config, dataset)
    assert without.familiarity is None
    assert "no familiarity: it is a share of held-back images: 3 are" in capsys.readouterr().err

    monkeypatch.setattr(familiarity, "LEAST_HELD_BACK", 3)
    card = model_file.export(model, 1.0, config, dataset)

    classifier = Classifier.load(config.output)
    _, shares = classifier.run(dataset.test.images[:])
    assert shares is not None
    assert {round(3 * share, 4) for share in shares} <= {0, 1, 2, 3}
    below = sum(share < 0.01 for share in shares) / len(shares)
    assert card.familiarity == Familiarity(0.01, 3, below)


def test_own_photographs_are_not_in_the_file_unless_that_is_said(
    model: keras.Model,
    config: TrainConfig,
    dataset: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = model_file.export(model, 1.0, config, dataset)
    assert card.examples == ()
    assert b"data:image" not in config.output.read_bytes()

    config = dataclasses.replace(config, examples=True)
    card = model_file.export(model, 1.0, config, dataset)
    assert Classifier.load(config.output).card.examples == card.examples
    labels = [example.label for example in card.examples]
    assert labels == ["blue", "blue", "green", "green", "red", "red"]  # all that are there
    model_file.announce(card, config, 1.0)
    assert "6 test images are in the file" in capsys.readouterr().err


def test_cifar10s_images_are() -> None:
    for examples, shown in ((None, True), (False, False), (True, True)):
        assert TrainConfig(examples=examples).shows_examples is shown


def test_writing_a_card_leaves_the_graph_alone(trained_model: TrainedModel, tmp_path: Path) -> None:
    before = onnx.load(trained_model.path)
    before.metadata_props.add(key="another", value="kept")
    model = onnx.ModelProto.FromString(before.SerializeToString())
    card = Classifier.load(trained_model.path).card

    cards.save(model, msgspec.structs.replace(card, name="renamed"), tmp_path / "model.onnx")

    after = onnx.load(tmp_path / "model.onnx")
    assert after.graph.SerializeToString() == before.graph.SerializeToString()
    properties = {prop.key: prop.value for prop in after.metadata_props}
    assert properties.keys() == {"another", METADATA_KEY}
    assert Classifier.load(tmp_path / "model.onnx").card.name == "renamed"
    for proto in (before, after):
        del proto.metadata_props[:]
    assert after == before


def test_the_version_follows_the_weights(
    model: keras.Model,
) -> None:
    today = cards.now()
    digests = [
        cards.version_of(model_file.convert(model_file.ServedNetwork(model, t), "basic"), today)
        for t in (1.0, 1.0, 1.1)
    ]

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_a_given_name_is_kept(model: keras.Model, config: TrainConfig, dataset: Dataset) -> None:
    card = model_file.export(model, 1.0, dataclasses.replace(config, name="pets"), dataset)

    assert card.name == "pets"


def test_without_parity_nothing_is_published(
    model: keras.Model, config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.output.write_bytes(b"the model before")
    monkeypatch.setattr(model_file, "PARITY_LIMIT", 1e-12)

    with pytest.raises(ExportError, match="differs from Keras"):
        model_file.export(model, 1.0, config, dataset)

    assert config.output.read_bytes() == b"the model before"
    files = [path for path in config.output.parent.iterdir() if path.is_file()]
    assert files == [config.output]


def test_an_earlier_model_is_replaced_whole(
    model: keras.Model, config: TrainConfig, dataset: Dataset
) -> None:
    config.output.write_bytes(b"the model before")

    model_file.export(model, 1.0, config, dataset)

    assert Classifier.load(config.output).card.name == "model"
    files = [path for path in config.output.parent.iterdir() if path.is_file()]
    assert files == [config.output]
