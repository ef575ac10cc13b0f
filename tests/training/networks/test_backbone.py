"""Networks of keras.applications: found, fed as each wants it, trained and exported as ours are.

Their weights are random here, as there is no network: `backbone.WEIGHTS` is None.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime as ort
import pytest
import tensorflow as tf

from service.inference.classifier import Classifier
from training import pipeline
from training.cli import main
from training.config import TrainConfig, from_options
from training.errors import ConfigError
from training.export.conversion import to_onnx
from training.export.model_file import PARITY_LIMIT
from training.fitting.optimizers import groups
from training.networks import backbone
from training.networks.building import served_network, untrained_network


def build(name: str, side: int = 32) -> keras.Model:
    return untrained_network(configured(name, side), labels=3)


def configured(name: str, side: int = 32) -> TrainConfig:
    return from_options({"backbone": f"keras:{name}", "image_size": (side, side), "shift": 2})


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build("MobileNet")


def pixels(side: int = 32) -> Any:
    return np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)


def test_networks_are_found_where_keras_has_them() -> None:
    found = backbone.applications()

    assert {"EfficientNetV2B0", "MobileNetV3Small", "ResNet50", "VGG16"} <= found.keys()
    for function in found.values():
        assert callable(sys.modules[function.__module__].preprocess_input)


# What Keras wants: -1..1, mean and deviation, blue first, and two that see to it themselves.
@pytest.mark.parametrize(
    "name", ["MobileNetV2", "DenseNet121", "VGG16", "MobileNetV3Small", "EfficientNetV2B0"]
)
def test_the_graph_begins_with_the_preprocessing(name: str) -> None:
    model = build(name)
    first = next(item for item in model.layers if isinstance(item, keras.layers.Conv2D))
    seen = keras.Model(model.input, first.input)(pixels()).numpy()
    padded = seen.shape[1] - 32
    seen = seen[:, padded // 2 :, padded // 2 :][:, :32, :32]

    module = sys.modules[backbone.applications()[name].__module__]
    expected = module.preprocess_input(pixels())
    if name == "MobileNetV3Small":
        expected = expected / 127.5 - 1
    elif name == "EfficientNetV2B0":
        expected = (expected / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_layers_that_cannot_be_exported_become_some_that_can() -> None:
    """As in ConvNeXt, which takes half a minute to convert."""
    maps = keras.Input((9, 9, 6))
    by_channel = keras.layers.Conv2D(6, 3, padding="same", groups=6, bias_initializer="normal")
    network = keras.Model(maps, keras.layers.Activation("gelu")(by_channel(maps)))
    given = np.random.default_rng(0).normal(size=(2, 9, 9, 6)).astype(np.float32)

    found = backbone.exportable(network)

    assert not any(getattr(item, "groups", 1) > 1 for item in found.layers)
    np.testing.assert_allclose(found(given), network(given), atol=1e-5)
    signature = tf.TensorSpec((None, 9, 9, 6), tf.float32)
    served = tf.function(found, input_signature=[signature])
    model = to_onnx(served, signature)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: given})
    np.testing.assert_allclose(answer, network(given), atol=1e-5)


def test_norms_keep_their_figures(network: keras.Model) -> None:
    norms = [item for item in network.layers if isinstance(item, keras.layers.BatchNormalization)]
    before = [norm.moving_mean.numpy() for norm in norms]

    network(pixels(), training=True)

    assert norms
    for norm, mean in zip(norms, before, strict=True):
        np.testing.assert_array_equal(norm.moving_mean, mean)


def test_rates_fall_towards_the_image_and_do_not_vanish(network: keras.Model) -> None:
    config = configured("MobileNet")
    peaks = {v.path: group.peak for group in groups(config, network) for v in group.variables}

    order = [v.path for item in network.layers for v in item.trainable_variables if v.path in peaks]
    learned = config.recipe.learned_blocks
    assert set(order) == {path for path, n in backbone.depths(network).items() if n < learned}
    assert len(order) < len(network.trainable_variables)
    rates = [peaks[path] for path in order if not path.startswith("logits")]
    assert rates == sorted(rates)
    assert peaks["logits/kernel"] == config.learning_rate * config.bias_rate
    assert config.learning_rate / 10 < rates[0] < config.learning_rate / 3


def test_a_network_is_trained_exported_and_opened(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "WEIGHTS", None)
    given = {"backbone": "keras:MobileNet", "image_size": (32, 32), "epochs": 1, "shift": 2}
    config = from_options({**given, "data": config.data, "output": config.output})

    card = pipeline.train(config)

    assert card.figures.parity is not None
    assert card.figures.parity <= PARITY_LIMIT
    about = card.provenance.initial_weights
    assert about.startswith(f"MobileNet of keras.applications {keras.__version__}, learned on Im")
    assert "Apache-2.0" in about
    assert "--backbone keras:MobileNet" in card.provenance.command
    answers = Classifier.load(config.output).predict(pixels().astype(np.uint8))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_what_is_served_is_what_was_trained(network: keras.Model) -> None:
    served = served_network(network, configured("MobileNet"))

    np.testing.assert_array_equal(served(pixels()), network(pixels()))


def test_a_name_that_keras_does_not_have_is_told_before_the_folder_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["--data", "nowhere", "--backbone", "keras:MobileNetV9"])

    assert status == 2
    said = capsys.readouterr().err
    assert "--backbone: 'keras:MobileNetV9' is not one of: keras:" in said
    assert "keras:MobileNetV3Small" in said


@pytest.mark.parametrize("name", ["MobileNet", "keras:", "torch:resnet18"])
def test_a_name_that_is_not_keras_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not one of"):
        backbone.require_name(name)


def test_an_image_that_is_too_small_is_told_with_what_keras_says() -> None:
    config = dataclasses.replace(configured("InceptionV3", 64))

    with pytest.raises(ConfigError, match=r"--image-size: 64x64 .* InceptionV3: .* at least 75x75"):
        backbone.require(config)


def test_without_a_connection_one_sentence_says_what_comes_with_the_package(
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(backbone, "applications", lambda: {"MobileNet": offline("MobileNet")})
    words = ["--data", str(image_folder), "--backbone", "keras:MobileNet"]

    status = main([*words, "--output", str(tmp_path / "model.onnx")])

    assert status == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: --backbone: Keras cannot download the weights of MobileNet")
    assert "efficientnet-lite0" in last
    assert "URL fetch failure" in last
    assert not any("reading" in line for line in before)


def offline(name: str) -> Callable[..., keras.Model]:
    """Keras' function where the weights cannot be downloaded."""
    original = getattr(keras.applications, name)

    @functools.wraps(original)
    def function(**options: Any) -> keras.Model:
        if options["weights"]:
            raise Exception("URL fetch failure on https://host.invalid/weights.h5")  # noqa: TRY002
        return original(**options)

    return function
