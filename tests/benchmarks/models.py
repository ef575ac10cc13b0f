"""Networks of several sizes, with random weights: what they answer does not matter here."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.settings import DEFAULT_MODEL
from training.cli import main
from training.data.cifar10 import LABELS as CIFAR10_LABELS

# Name: channels of three 3x3 convolutions on 32x32 pixels; some 0.1, 3 and 11 ms on one core.
WIDTHS = {"narrow": 4, "wide": 96, "widest": 192}
DEFAULT = "default"
MODELS = (DEFAULT, *WIDTHS)


def model_file(name: str, folder: Path) -> Path:
    """The file of one of ``MODELS``, or of the path that the name is, with a card."""
    if name == DEFAULT:
        return DEFAULT_MODEL
    if name not in WIDTHS:
        return Path(name)
    path = folder / f"{name}.onnx"
    if not path.exists():
        onnx.save(network(WIDTHS[name]), folder / f"bare-{name}.onnx")
        adopt(folder / f"bare-{name}.onnx", path)
    return path


def adopt(bare: Path, path: Path) -> None:
    """Make a model file of a network without a card."""
    words = ["--labels", ",".join(CIFAR10_LABELS), "--output", str(path)]
    if main(["adopt", str(bare), *words]):
        raise RuntimeError(f"{bare} cannot be adopted")


def network(channels: int, size: int = 32) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    weights: list[onnx.TensorProto] = []

    def weight(*shape: int) -> str:
        name = f"weights_{len(weights)}"
        values = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    weights.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"))
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["layer_0"], perm=[0, 3, 1, 2]),
    ]
    before = 3
    for number in range(3):
        made = weight(channels, before, 3, 3)
        nodes += [
            helper.make_node(
                "Conv", [f"layer_{number}", made], [f"conv_{number}"], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Relu", [f"conv_{number}"], [f"layer_{number + 1}"]),
        ]
        before = channels
    labels = len(CIFAR10_LABELS)
    nodes += [
        helper.make_node("GlobalAveragePool", ["layer_3"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", weight(labels, channels)], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        f"three convolutions of {channels}",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", labels])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
