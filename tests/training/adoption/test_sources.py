"""Networks of Keras', SavedModels, quantised ones, the packaged weights."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.training.adoption.networks import (
    LABELS,
    NAMES,
    Network,
    adopt,
    agree,
    asked,
    imagenet,
    node,
    pictures,
    softmax,
)
from training.cli import main

# Of Keras, as it saves weights with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PIXELS = ("--preprocess", "imagenet")


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    return keras


def network(keras: Any, *, size: int | None = 10, end: str = "softmax", **more: Any) -> Any:
    """Rescaling, a convolution with gelu, the mean, one number for each label."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((size, size, 3), name="photo")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, activation="gelu", bias_initializer="normal")(x)
    x = layers.GlobalAveragePooling2D()(x)
    kernel = keras.initializers.RandomNormal(stddev=3)
    outputs = layers.Dense(len(LABELS), activation=end, kernel_initializer=kernel, **more)(x)
    return keras.Model(image, outputs)


@pytest.mark.parametrize("name", ["own.keras", "own.h5", "saved"])
def test_keras(tmp_path: Path, keras: Any, name: str) -> None:
    model = network(keras)
    if name == "saved":
        with redirect_stdout(io.StringIO()):
            model.export(tmp_path / name, verbose=False)
    else:
        model.save(tmp_path / name)
    images = pictures(10, 10)
    classifier = adopt(tmp_path / name, *NAMES, output=tmp_path / "o.onnx")
    card = classifier.card
    assert card.input.resize == "stretch"
    assert card.provenance.config["pixels"].startswith("pixels")
    assert name in card.provenance.adopted_from
    agree(classifier, images, model.predict(images.astype(np.float32), verbose=0))


def test_keras_of_any_size_with_logits_in_float16(tmp_path: Path, keras: Any) -> None:
    model = network(keras, size=None, end="linear", dtype="float16")
    model.save(tmp_path / "own.keras")
    classifier = adopt(tmp_path / "own.keras", *NAMES, "--size", "9x11")
    assert classifier.input_size == (9, 11)
    images = pictures(9, 11)
    logits = model.predict(images.astype(np.float32), verbose=0).astype(np.float64)
    agree(classifier, images, softmax(logits), within=1e-3)


def lambda_layer(keras: Any) -> Any:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda x: x / 255)(image)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def two_inputs(keras: Any) -> Any:
    images = [keras.Input((8, 8, 3)), keras.Input((4,))]
    flat = [keras.layers.Flatten()(each) for each in images]
    return keras.Model(images, keras.layers.Dense(3)(keras.layers.Concatenate()(flat)))


def a_vector(keras: Any) -> Any:
    numbers = keras.Input((4,))
    return keras.Model(numbers, keras.layers.Dense(3)(numbers))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda_layer, "Lambda layer"),
        (two_inputs, "takes 2 inputs"),
        (a_vector, "takes no image"),
    ],
)
def test_keras_that_is_refused(
    tmp_path: Path,
    keras: Any,
    make: Callable[[Any], Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(keras).save(tmp_path / "own.keras")
    words = [str(tmp_path / "own.keras"), "--labels", "a,b,c", "--output", str(tmp_path / "o.onnx")]
    assert main(["adopt", *words]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.keras", b"", "is empty"),
        ("a.h5", b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        ("a.keras", b"PK\x03\x04 and no more", "cannot be loaded"),
        ("a.h5", b"\x89HDF\r\n\x1a\n and no more", "cannot be loaded"),
        ("saved_model.pb", b"no message", "cannot be loaded"),
    ],
)
def test_files_of_kerass_that_are_broken(
    tmp_path: Path, name: str, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["adopt", str(tmp_path / name), "--output", str(tmp_path / "o.onnx")]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """Four images for the calibration."""

    def __init__(self, seen: NDArray[Any]) -> None:
        self._rest: Iterator[NDArray[Any]] = iter([seen])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        found = next(self._rest, None)
        return None if found is None else {"input": found}


@pytest.fixture
def quiet() -> Iterator[None]:
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    yield
    logging.root.setLevel(level)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("end", ["logits", "softmax"])
def test_quantised(tmp_path: Path, form: QuantFormat, end: str) -> None:
    nodes = [node("Softmax", "logits", "softmax", axis=1)] if end == "softmax" else []
    before = Network(end=nodes, outputs=[end]).save(tmp_path)
    model = tmp_path / "quantised.onnx"
    seen = imagenet(pictures())
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(before, model, Batches(seen), quant_format=form, **types)
    found = asked(model, seen, end)
    expected = softmax(found) if end == "logits" else found / found.sum(axis=1, keepdims=True)
    agree(adopt(model, *NAMES, *PIXELS), pictures(), expected)


@pytest.mark.usefixtures("quiet")
def test_quantised_from_bytes_on(tmp_path: Path) -> None:
    before = Network(["N", 8, 8, 3], TensorProto.UINT8).save(tmp_path)
    model = tmp_path / "quantised.onnx"
    quantize_static(before, model, Batches(pictures()), weight_type=QuantType.QInt8)
    agree(adopt(model, *NAMES), pictures(), softmax(asked(model, pictures())))


@pytest.mark.usefixtures("quiet")
def test_quantised_as_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its steps depend on all images of the batch; ours do not see one another."""
    before, model = Network().save(tmp_path), tmp_path / "dynamic.onnx"
    quantize_dynamic(before, model, op_types_to_quantize=["Conv", "Gemm", "MatMul"])
    classifier = adopt(model, *NAMES, *PIXELS)
    agree(classifier, pictures(), softmax(asked(model, imagenet(pictures()))))
    assert "one image after another" in capsys.readouterr().err


def test_the_packaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's labels, and what the network of Keras' answers."""
    from training.networks import pretrained

    # Made once, for the command and for us.
    made = functools.cache(pretrained.imagenet_network)
    monkeypatch.setattr(pretrained, "imagenet_network", made)
    classifier = adopt("efficientnet-lite0", "--size", "64", output=tmp_path / "o.onnx")
    card = classifier.card
    assert len(card.labels) == 1000
    assert card.input.resize == "crop-0.875"
    assert card.training_data.name == "ImageNet-1k"
    assert "Apache-2.0" in card.provenance.adopted_from
    images = pictures(64, 64, count=3)
    logits = made((64, 64)).predict(images.astype(np.float32), verbose=0)
    agree(classifier, images, softmax(logits.astype(np.float64)))


def test_packaged_weights_at_a_size_that_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["efficientnet-lite0", "--size", "15x90", "--output", str(tmp_path / "o.onnx")]
    assert main(["adopt", *words]) == 2
    assert "--size: efficientnet-lite0 takes images of 16" in capsys.readouterr().err


def test_packaged_weights_that_are_not_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.networks import pretrained

    (tmp_path / "w.pth").write_bytes(b"other weights")
    monkeypatch.setattr(pretrained, "_file", lambda: tmp_path / "w.pth")
    assert main(["adopt", "efficientnet-lite0", "--output", str(tmp_path / "o.onnx")]) == 1
    assert "not the file that was published" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()
