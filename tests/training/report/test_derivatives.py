"""Every rule against what happens when the pixels are really changed a little."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.training.report.nets import build
from training.report.derivatives import RULES, NoRule
from training.report.network import Network

SIZE = (7, 6)
F = np.float32
RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1, shape).astype(F)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


# Name, operator, its attributes, its other inputs. The first input is [2, 3, 7, 6], around 1.
CASES: list[tuple[str, str, dict[str, Any], list[NDArray[Any]]]] = [
    ("conv", "Conv", {}, [normal(4, 3, 3, 3), normal(4)]),
    ("strided", "Conv", {"strides": [2, 3], "pads": [1, 0, 2, 1]}, [normal(4, 3, 3, 2)]),
    ("dilated", "Conv", {"dilations": [2, 1], "strides": [1, 2]}, [normal(4, 3, 2, 3)]),
    ("depthwise", "Conv", {"group": 3, "auto_pad": "SAME_UPPER"}, [normal(6, 1, 3, 3)]),
    ("same, even", "Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [normal(2, 3, 2, 4)]),
    ("max", "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, []),
    (
        "overlapping",
        "MaxPool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        [],
    ),
    ("ceiling", "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, []),
    ("average", "AveragePool", {"kernel_shape": [3, 2], "strides": [2, 1]}, []),
    ("padded average", "AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, []),
    (
        "with padding",
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        [],
    ),
    ("global average", "GlobalAveragePool", {}, []),
    ("global max", "GlobalMaxPool", {}, []),
    ("mean", "ReduceMean", {"keepdims": 0}, [ints(2, 3)]),
    ("sum", "ReduceSum", {"keepdims": 1}, [ints(1, -1)]),
    ("largest", "ReduceMax", {"keepdims": 0}, [ints(2)]),
    (
        "batch normalization",
        "BatchNormalization",
        {"epsilon": 0.01},
        [normal(3), normal(3), normal(3), np.array([0.5, 1, 2], F)],
    ),
    ("matrix", "MatMul", {}, [normal(6, 4)]),
    ("softmax", "Softmax", {"axis": 1}, []),
    ("reshape", "Reshape", {}, [ints(2, 9, 14)]),
    ("flatten", "Flatten", {}, []),
    ("transpose", "Transpose", {"perm": [0, 2, 3, 1]}, []),
    ("unsqueeze", "Unsqueeze", {}, [ints(2)]),
    ("concat", "Concat", {"axis": 1}, [normal(2, 2, 7, 6)]),
    ("pad", "Pad", {}, [ints(0, 0, 1, 2, 0, 1, 0, 3)]),
    ("slice", "Slice", {}, [ints(1, 0), ints(7, 5), ints(2, 3), ints(2, 3)]),
    ("add", "Add", {}, [normal(3, 1, 1)]),
    ("sub", "Sub", {}, [normal(1, 6)]),
    ("mul", "Mul", {}, [normal(3, 1, 6)]),
    ("div", "Div", {}, [np.array([[[2.0]], [[3]], [[-1]]], F)]),
    ("pow", "Pow", {}, [np.array(3.0, F)]),
    ("larger", "Max", {}, [np.array(1.0, F)]),
    ("smaller", "Min", {}, [np.array(1.0, F)]),
    ("clip", "Clip", {}, [np.array(0.5, F), np.array(1.2, F)]),
    ("leaky", "LeakyRelu", {"alpha": 0.3}, []),
    ("elu", "Elu", {"alpha": 0.7}, []),
    ("hard sigmoid", "HardSigmoid", {"alpha": 0.4, "beta": 0.3}, []),
    *[
        (name.lower(), name, {}, [])
        for name in (
            *("Abs", "Dropout", "Erf", "Exp", "HardSwish", "Identity", "Log", "Neg"),
            *("Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Tanh"),
        )
    ],
]
# Differentiated within networks in other tests, or wherever an image is cast.
ELSEWHERE = {"Cast", "Gemm", "Squeeze", "QuantizeLinear", "DequantizeLinear"}


def network_of(
    operator: str, attributes: dict[str, Any], others: list[NDArray[Any]]
) -> tuple[Network, str]:
    """image / 128 → [N, 3, H, W] → the operator; the value's name that it gives."""
    names = [f"constant_{i}" for i in range(len(others))]
    constants = {"scale": np.array(1 / 128, F), **dict(zip(names, others, strict=True))}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node(operator, ["x", *names], ["y"], **attributes),
        helper.make_node("ReduceMean", ["y"], ["probabilities"]),
    ]
    return Network(build(nodes, constants, SIZE)), "y"


@pytest.mark.parametrize(
    ("operator", "attributes", "others"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_gradient_foretells_what_a_small_change_does(
    operator: str, attributes: dict[str, Any], others: list[NDArray[Any]]
) -> None:
    network, target = network_of(operator, attributes, others)
    rng = np.random.default_rng(1)
    # Far apart, and off the places where an operator has a corner: a step must not cross one.
    ranks = rng.permutation(2 * 3 * SIZE[0] * SIZE[1]).reshape(2, *SIZE, 3)
    pixels = (ranks + 2.25).astype(F)
    values = network.trace(pixels, target)
    weights = rng.normal(0, 1, values[target].shape).astype(F)

    found = network.gradient(values, target, weights)

    for _ in range(4):
        way = rng.choice([-0.2, 0.2], pixels.shape).astype(F)
        there, back = (
            (network.trace(pixels + sign * way, target)[target].astype(float) * weights).sum()
            for sign in (1, -1)
        )
        expected = float((found.astype(float) * way).sum() * 2)
        size = float((np.abs(found.astype(float)) * 0.4).sum())
        assert there - back == pytest.approx(expected, abs=0.003 * size + 1e-4)
    assert np.abs(found).max() > 0


def test_every_rule_is_held_by_a_test() -> None:
    assert {case[1] for case in CASES} | ELSEWHERE == set(RULES)


def test_rounding_lets_the_gradient_through_and_cutting_off_does_not() -> None:
    scale: NDArray[Any] = np.array(0.01, F)
    zero: NDArray[Any] = np.array(0, np.uint8)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "share"], ["x"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["probabilities"]),
    ]
    constants: dict[str, NDArray[Any]] = {"share": np.array(0.02, F), "scale": scale, "zero": zero}
    network = Network(build(nodes, constants, (1, 2)))
    values = network.trace(np.array([[[[50, 100, 120], [130, 200, 0]]]], F), "y")

    found = network.gradient(values, "y", np.ones((1, 1, 2, 3), F))

    # 255 steps of 0.01 are reached at 127.5; at 0 a value is cut off as well.
    expected = np.array([[0.02, 0.02, 0.02], [0, 0, 0]], F)
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-6)


def test_gradients_of_branches_are_added() -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("Add", ["squares", "x"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["probabilities"]),
    ]
    network = Network(build(nodes, {}, (1, 1)))
    values = network.trace(np.array([[[[1, 2, 3]]]], F), "y")

    found = network.gradient(values, "y", np.ones((1, 1, 1, 3), F))

    np.testing.assert_allclose(found, [[[[3, 5, 7]]]])


def unknown() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sin", ["x"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["probabilities"]),
    ]


def test_an_operator_without_a_rule_is_named() -> None:
    network = Network(build(unknown(), {}))
    values = network.trace(np.zeros((1, 8, 8, 3)), "y")

    with pytest.raises(NoRule, match="Sin"):
        network.gradient(values, "y", np.ones((1, 8, 8, 3), F))
