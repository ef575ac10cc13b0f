import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.training.test_architectures import shape
from training import export
from training.architectures import ARCHITECTURES
from training.graphs import divide_logits

# What the graph of each is made of: no norm of any kind, no shape worked out while it runs.
LEAN = {
    "basic": {"Cast", "Sub", "Transpose", "Conv", "Relu", "MaxPool", "Reshape", "MatMul"},
    "small": {"Cast", "Sub", "Transpose", "Conv", "Relu", "MaxPool", "ReduceMax", "MatMul"},
}


def converted(name: str, seed: int = 0) -> onnx.ModelProto:
    keras.utils.set_random_seed(seed)
    model = ARCHITECTURES[name].build(shape(), True)
    return export.convert(export.ServedNetwork(model, 1.0), name)


def answers(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return found


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
    assert all(kinds[i + 1] == "Relu" for i in convolutions)  # onnxruntime makes one of both
    assert answers(model, images).shape == (5, 10)


def test_a_temperature_divides_the_logits(images: NDArray[np.uint8]) -> None:
    model = converted("basic")
    plain = answers(model, images)
    keras.utils.set_random_seed(0)
    network = ARCHITECTURES["basic"].build(shape(), True)

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
