from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.training.networks.test_networks import as_served, build
from training.export import model_file
from training.export.graphs import divide_logits
from training.export.quantisation import quantised

# What the graph of each is made of: no norm of any kind, no shape worked out while it runs.
LEAN = {
    "basic": {"Cast", "Sub", "Transpose", "Conv", "Relu", "MaxPool", "Reshape", "MatMul"},
    "small": {"Cast", "Sub", "Transpose", "Conv", "Relu", "MaxPool", "ReduceMax", "MatMul"},
    "deep": {"Cast", "Sub", "Transpose", "Conv", "Relu", "MaxPool", "Add", "ReduceMax", "MatMul"},
}
# What onnxruntime makes of a staged network in integers.
INTEGERS = {"Transpose", "QLinearConv", "NhwcMaxPool"}
WHITENING = {"Conv", "FusedConv", "ReorderInput", "ReorderOutput"}  # as the processor likes it


def converted(name: str, seed: int = 0) -> onnx.ModelProto:
    keras.utils.set_random_seed(seed)
    model = as_served(build(name))
    return model_file.convert(model_file.ServedNetwork(model, 1.0), name)


def answers(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return found


def test_what_a_layer_of_keras_holds_is_a_constant_of_the_graph() -> None:
    """tf2onnx makes inputs of it."""
    pixels = keras.Input((4, 4, 3))
    normal = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(normal)))
    network = model_file.ServedNetwork(model, 1.0)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)

    graph = model_file.convert(network, "normalised")

    assert [value.name for value in graph.graph.input] == ["image"]
    np.testing.assert_allclose(answers(graph, images), network.predict(images), atol=1e-5)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", LEAN)
def test_graphs_are_lean(name: str, images: NDArray[np.uint8]) -> None:
    model = converted(name)

    kinds = [node.op_type for node in model.graph.node]
    assert {*kinds} == {*LEAN[name], "Softmax"}
    assert kinds.count("Cast") == 1
    # Once where channels come first from then on, and once where they come last again.
    assert kinds.count("Transpose") == 2
    convolutions = [i for i, kind in enumerate(kinds) if kind == "Conv"]
    # onnxruntime makes one operation of a convolution and what follows.
    assert {kinds[i + 1] for i in convolutions} <= {"Relu", "Add"}
    assert kinds.count("Add") == (3 if name == "deep" else 0)
    assert answers(model, images).shape == (5, 10)


@pytest.mark.parametrize(("name", "more"), [("small", set()), ("deep", {"QLinearAdd"})])
def test_in_integers_nothing_between_whitening_and_features_is_in_floats(
    name: str, more: set[str], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4  # it warns that the file is for this machine
    small = quantised(converted(name), images)

    ort.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])

    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    first, last = kinds.index("QuantizeLinear"), kinds.index("DequantizeLinear")
    assert {*kinds[:first]} <= {"Cast", "Sub", "Transpose", *WHITENING}
    assert kinds[:first].count("Conv") + kinds[:first].count("FusedConv") == 1
    assert {*kinds[first + 1 : last]} == INTEGERS | more
    assert kinds[last + 1 :] == ["ReduceMax", "MatMul", "Softmax"]


def test_a_temperature_divides_the_logits(images: NDArray[np.uint8]) -> None:
    model = converted("basic")
    plain = answers(model, images)
    keras.utils.set_random_seed(0)
    network = as_served(build("basic"))

    divide_logits(model, 100.0)  # logits of a network of chance, over pixels, are large

    divided = answers(model, images)
    ratios = np.log(divided[:, :1] / divided)
    logits = np.asarray(network(images.astype(np.float32)))
    np.testing.assert_allclose(ratios, (logits[:, :1] - logits) / 100, atol=1e-3)
    assert np.ptp(ratios) > 0.1
    assert np.abs(plain - divided).max() > 0.01


def test_a_graph_without_a_softmax_has_no_temperature() -> None:
    model = converted("basic")
    del model.graph.node[-1]

    with pytest.raises(ValueError, match="softmax"):
        divide_logits(model, 2.0)
